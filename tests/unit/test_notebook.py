"""The notebook for Colab and Kaggle, its own cells executed on a tiny set of generated images."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from model.predict import Classifier, load_info
from tests.unit.model.tiny import write_set

CHECKOUT = Path(__file__).parents[2]
NOTEBOOK = CHECKOUT / "notebooks" / "train_on_colab.ipynb"

pytestmark = pytest.mark.timeout(1800)  # the cells take 30 s of two idle cores


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook: Any) -> Any:
    (cell,) = [c for c in code_cells(notebook) if "parameters" in c.metadata.get("tags", [])]
    return cell


def with_parameters(notebook: Any, **values: Any) -> Any:
    """Put a cell of other values behind the tagged one, as papermill does."""
    place = notebook.cells.index(parameters(notebook)) + 1
    source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    notebook.cells.insert(place, nbformat.v4.new_code_cell(source))
    return notebook


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebook")


def write_splits(folder: Path, patients: int, tested: int) -> Path:
    """Write `train/` and, of patients of its own, `test/`."""
    for path in write_set(folder / "train", patients + tested).glob("*/*.jpeg"):
        target = folder / "test" / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        number = re.search(r"\d+", path.name)
        assert number is not None
        if int(number[0]) >= patients:
            path.rename(target / path.name)
    return folder


@pytest.fixture(scope="module")
def executed(home: Path) -> Any:
    write_splits(home / "set", patients=10, tested=3)
    notebook = with_parameters(
        read(),
        CHECKOUT=str(CHECKOUT),
        DATA=str(home / "set"),
        OUT=str(home / "out"),
        SIZE=32,
        EPOCHS=1,
        BATCH=16,
    )
    with pytest.MonkeyPatch.context() as patch:
        # pip checks that all requirements are here, and changes nothing. ("0" switches on
        # --no-build-isolation: pip takes the value of a "no" option for that of its opposite.)
        for key in ("PIP_DRY_RUN", "PIP_NO_INDEX"):
            patch.setenv(key, "1")
        patch.setenv("PIP_NO_BUILD_ISOLATION", "0")
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        for key in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(key, str(home / key.lower()))
        resources = {"metadata": {"path": str(home)}}
        client = nbclient.NotebookClient(
            notebook, timeout=900, kernel_name="python3", resources=resources
        )
        return client.execute()


def told(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def test_the_notebook_is_valid_and_keeps_nothing_of_a_run() -> None:
    notebook = read()
    nbformat.validate(notebook)
    assert all(not cell.outputs for cell in code_cells(notebook))
    assert all(cell.execution_count is None for cell in code_cells(notebook))


def test_the_notebook_says_for_whom_it_is_and_whose_images_they_are() -> None:
    text = "\n".join(cell.source for cell in read().cells if cell.cell_type == "markdown")
    for words in ("Research use only", "one to five\n> years", "Kermany", "CC BY 4.0"):
        assert words in text


def test_by_itself_it_takes_the_public_set_from_kaggle() -> None:
    assigned = ast.parse(parameters(read()).source).body
    values = {a.targets[0].id: ast.literal_eval(a.value) for a in assigned}
    assert values["DATA"] == "kaggle:paultimothymooney/chest-xray-pneumonia"
    assert values["REPOSITORY"] == ""


def test_every_cell_runs_and_none_is_skipped(executed: Any) -> None:
    counts = [cell.execution_count for cell in code_cells(executed)]
    assert counts == list(range(1, len(code_cells(read())) + 2))


def test_tensorboard_opens_in_the_page(executed: Any) -> None:
    (cell,) = [c for c in code_cells(executed) if "%load_ext tensorboard" in c.source]
    (page,) = [output.data for output in cell.outputs]
    # On a machine with too much to do TensorBoard gives itself up after a minute, and says so.
    late = "Timed out waiting for TensorBoard" in page["text/plain"]
    assert late or 'id="tensorboard-frame' in page["text/html"]


def test_the_evaluation_shows_its_figures(executed: Any) -> None:
    (cell,) = [c for c in code_cells(executed) if "evaluate.evaluate" in c.source]
    shown = [kind for output in cell.outputs for kind in output.get("data", {})]
    assert shown.count("image/png") >= 5
    assert "text/markdown" in shown


def test_the_model_it_releases_is_one_the_worker_loads(executed: Any, home: Path) -> None:
    info = Classifier.load(home / "out" / "released").info
    assert (info.name, info.version, info.input_size) == ("cxr-resnet18", "0.1.0", 32)
    (cell,) = [c for c in code_cells(executed) if "classifier.predict" in c.source]
    assert info.digest[:16] in told(cell)
    assert re.search(r"Prediction\(pneumonia=", told(cell))


def test_the_archive_unpacks_to_the_same_model(executed: Any, home: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(home / "out" / "cxr-resnet18-0.1.0.zip", tmp_path)
    assert load_info(tmp_path).digest == load_info(home / "out" / "released").digest
