import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

# A program of its own, as pytest has its own idea of warnings and logging.
PROGRAM = """
import logging
logging.basicConfig(level=logging.DEBUG)
from io import BytesIO
from pydicom import dcmread
from tests.datasets import image, part10
from tests.unit.dicom_node.test_reception import FakeEvent, FakeRecord
from dicom_node.archive import Archive
from dicom_node.pixels import to_pixels
from dicom_node.reception import handle_store
from tests.unit.dicom_node.test_report import report, InstanceFinding
import sys

secret = "SECRET\\x00^\\xe9=" * 20
ds = image(PatientName=secret, PatientID=secret, PatientBirthDate="SECRET",
           SpecificCharacterSet="ISO_IR 192", StudyDate="SECRET", PatientAge="SECRET")
data = part10(ds).replace(b"\\xc3\\xa9", b"\\xff\\xfe")
handle_store(FakeEvent(ds, data=data), Archive(sys.argv[1]), FakeRecord())
received = dcmread(BytesIO(data))
to_pixels(received)
print(received.PatientName != "", received.PatientBirthDate != "", file=sys.stdout)
report([received], [InstanceFinding(received.SOPInstanceUID, False, "NOT_CHEST")])
"""


def test_the_libraries_say_nothing_about_a_patient(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "SECRET" not in run.stderr
    assert "Warning" not in run.stderr
