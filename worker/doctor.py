"""Looks at everything the product stands on; says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydicom.uid import UID, KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

from dicom_node.commitment import PUSH_MODEL
from dicom_node.contexts import REPORT_SOP_CLASSES
from dicom_node.errors import ConfigurationError, PacsWorkerError
from dicom_node.store import Store
from worker import web_checks
from worker.checks import ADVICE, Check, advice_on_expiry, check_broker
from worker.destinations import Destination
from worker.notify_checks import check_target
from worker.placing import archive_of
from worker.settings import Settings
from worker.settings_objects import Bucket
from worker.states import CompanionKind

CALL_TIMEOUT_S = 5
COMPANION_SOP_CLASSES = {
    CompanionKind.PICTURE: SecondaryCaptureImageStorage,
    CompanionKind.KEY_OBJECT: KeyObjectSelectionDocumentStorage,
}
LOW_SPACE_BYTES = 5_000_000_000


def examine(settings: Settings) -> Iterator[Check]:
    """Look at what is stood on, and at everybody who is sent or told anything."""
    looks: list[tuple[str, Callable[[Settings], Check]]] = [
        ("database", _database),
        ("broker", check_broker),
        ("archive", _archive),
        ("model", _model),
        ("decoders", _decoders),
        *([("tls", _tls)] if settings.tls_files else []),
        *web_checks.looks(settings),
        *([("audit", _audit)] if settings.audit_syslog else []),
        *([("traces", _traces)] if settings.otlp_endpoint else []),
        ("destinations", _destinations),
        ("deliveries", _deliveries),
    ]
    for name, look in looks:
        try:
            yield look(settings)
        except ConfigurationError as error:
            yield Check(name, "not usable", str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, the other checks still run
            yield Check(name, f"failed with {type(error).__name__}", _advice(name))
    yield from (_destination(settings, each) for each in settings.destinations)
    yield from (check_target(settings, each) for each in settings.targets)


def _advice(name: str) -> str:
    return ADVICE.get(name, "run again with CXR_LOG_LEVEL=DEBUG and report this")


def _database(settings: Settings) -> Check:
    from sqlalchemy import make_url

    from worker import database, ledger

    engine = database.build_engine(settings.database_url)
    shown = make_url(settings.database_url).render_as_string(hide_password=True)
    database.require_schema(engine)
    with database.build_reading_sessions(engine)() as session:
        depth = ledger.depth(session)
    owed = ", ".join(f"{count} {what.lower()}" for what, count in depth.items()) or "nothing owed"
    dead = sum(count for what, count in depth.items() if what.endswith("DEAD"))
    advice = f"{dead} given up: see `cxr-worker dead-letters`" if dead else ""
    if not database.is_durable(engine):
        advice = "set fsync = on in PostgreSQL: as it is, a power cut loses what was acknowledged"
    return Check("database", f"{shown}, revision {database.head_revision()}, {owed}", advice)


def _archive(settings: Settings) -> Check:
    from worker import archiving

    archive = archive_of(settings)
    place = archive.place
    try:
        if not archive.is_there() and not _may_be_ours(settings, archive):
            return Check("archive", f"{place} is not the archive", archiving.NOT_OURS)
        archive.probe()
    except OSError as error:
        return Check("archive", f"{place}: {error.strerror}", _advice("archive"))
    free = archive.free_bytes()
    is_bucket = isinstance(settings.archive, Bucket)
    disk = f"free in {settings.spool_path}" if is_bucket else "free"
    found = f"{place}, {free / 1e9:.1f} GB {disk}"
    reserve = settings.archive_reserve_mb * 1_000_000
    if free < reserve:
        return Check("archive", found, "make room: instances are refused with 0xA700")
    low = free < reserve + LOW_SPACE_BYTES
    return Check("archive", found, "make room soon" if low else "")


def _traces(settings: Settings) -> Check:
    from worker import tracing

    tracing.require(settings)
    from worker.collector import address_of, takes_traces

    where = address_of(settings)
    if takes_traces(settings):
        return Check("traces", f"{where} takes them")
    advice = "start the collector, or correct CXR_OTLP_ENDPOINT and CXR_OTLP_HEADERS_FILE"
    return Check("traces", f"{where} does not take them", f"{advice}; nothing else waits for it")


def _may_be_ours(settings: Settings, archive: Store) -> bool:
    """Hold a folder without a mark against the database; one that is away speaks for itself."""
    from sqlalchemy.exc import DBAPIError

    from worker import archiving, database

    engine = database.build_engine(settings.database_url)
    try:
        return archiving.may_be_ours(archive, database.build_reading_sessions(engine))
    except DBAPIError:
        return True
    finally:
        engine.dispose()


def _model(settings: Settings) -> Check:
    from model.engines import choose
    from worker import composition

    try:
        info = composition.model_info()
    except ConfigurationError as error:
        advice = f"{error}; until then a worker that runs goes on answering with the model it has"
        return Check("model", "not usable", advice)
    choose("cpu" if settings.device == "auto" else settings.device, settings.engine)
    return Check("model", f"{info.name} {info.version}, digest {info.digest[:16]}")


def _decoders(settings: Settings) -> Check:  # noqa: ARG001
    from dicom_node.contexts import COMPRESSED_TRANSFER_SYNTAXES, decodable_transfer_syntaxes
    from dicom_node.decoders import DecoderState, decoder_state

    found = f"{len(decodable_transfer_syntaxes())} transfer syntaxes"
    states = {UID(uid).name: decoder_state(uid) for uid in COMPRESSED_TRANSFER_SYNTAXES}
    lost = [f"{n}, which {s.value}" for n, s in states.items() if s is not DecoderState.WORKS]
    advice = f"not offered: {'; '.join(lost)}. Install pylibjpeg's packages and pyjpegls anew"
    return Check("decoders", found, advice if lost else "")


def _destinations(settings: Settings) -> Check:
    if settings.destinations:
        return Check("destinations", f"{len(settings.destinations)} set")
    return Check(
        "destinations", "none set", "set CXR_DESTINATIONS=AET@host:port, or reports stay here"
    )


def _deliveries(settings: Settings) -> Check:
    """Tell who is away, and since when; they are called below in any case."""
    from worker import database, ledger

    engine = database.build_engine(settings.database_url)
    database.require_schema(engine)
    with database.build_reading_sessions(engine)() as session:
        away = ledger.outages(session)
    if not away:
        return Check("deliveries", "no destination is away")
    words = [
        f"{each.destination} since {each.since:%Y-%m-%d %H:%M:%S}Z, {each.failures} tries, "
        f"the next at {each.next_try_at:%H:%M:%S}Z: "
        f"{each.last_error.removeprefix(each.destination + ': ')}"
        for each in away
    ]
    return Check("deliveries", "away: " + "; ".join(words), "nothing is lost; see what is said")


def _tls(settings: Settings) -> Check:
    from dicom_node import tls

    files = settings.tls_files
    assert files is not None  # looked at only where they are set
    tls.client_context(files)
    expiry = tls.expiry(files.certificate)
    port = f"listens on {settings.tls_port}" if settings.tls_port is not None else "does not listen"
    found = f"{port}, our certificate expires on {expiry:%Y-%m-%d}"
    return Check("tls", found, advice_on_expiry(expiry, "CXR_TLS_CERTIFICATE"))


def _audit(settings: Settings) -> Check:
    """Call the receiver of the audit trail, and tell what waits for it."""
    from worker.audit import shipping, trail

    connect = trail.connect_of(settings)
    assert connect is not None  # looked at only where a receiver is set
    waiting = f"{shipping.waiting_bytes(settings.audit_path)} bytes wait in {settings.audit_path}"
    try:
        connect().close()
    except OSError as error:
        found = f"{settings.audit_syslog} does not answer: {type(error).__name__}; {waiting}"
        advice = "check CXR_AUDIT_SYSLOG and the certificates; nothing is lost, only late"
        return Check("audit", found, advice)
    return Check("audit", f"{settings.audit_syslog} answers over TLS, {waiting}")


def _destination(settings: Settings, destination: Destination) -> Check:
    """Call a destination as a delivery would, but for the report."""
    from dicom_node import storage_scu
    from dicom_node.tls import client_context

    peer, ours = destination.peer, settings.ae_title
    asked = [*REPORT_SOP_CLASSES, *COMPANION_SOP_CLASSES.values(), PUSH_MODEL]
    try:
        files = settings.tls_files
        tls = client_context(files) if files and destination.tls else None
        storage_scu.echo(peer, ours, CALL_TIMEOUT_S, tls=tls)
        taken = storage_scu.offers(peer, ours, asked, CALL_TIMEOUT_S, tls=tls)
    except PacsWorkerError as error:
        how = " over TLS" if destination.tls else ""
        return Check(str(peer), f"does not answer C-ECHO{how}", str(error))
    refused = [
        f"{UID(uid).name} ({uid})"
        for kind, uid in COMPANION_SOP_CLASSES.items()
        if kind in destination.companions and uid not in taken
    ]
    if not taken & set(REPORT_SOP_CLASSES):
        refused = [f"one of {', '.join(f'{UID(uid).name} ({uid})' for uid in REPORT_SOP_CLASSES)}"]
    advice = f"allow {ours} to store {' and '.join(refused)} there, then requeue what it refused"
    if not refused:
        advice = _why_unheard(settings, destination) if PUSH_MODEL in taken else ""
    return Check(str(peer), _reception(destination, taken), advice)


def _why_unheard(settings: Settings, destination: Destination) -> str:
    """Say why a destination could not tell us later that it keeps a report."""
    ae_title, allowed = destination.peer.ae_title, settings.allowed_ae_titles
    if not destination.commitment or not allowed or ae_title in allowed:
        return ""
    return f"add {ae_title} to CXR_ALLOWED_AE_TITLES, so that it may tell us what it keeps"


def _reception(destination: Destination, taken: frozenset[str]) -> str:
    """Say what a destination takes, and how."""
    report = next((uid for uid in REPORT_SOP_CLASSES if uid in taken), None)
    words = "does not accept our reports"
    if report is not None:
        words = f"takes reports as {UID(report).name.removesuffix(' Storage')}"
    offered = "offers Storage Commitment" if PUSH_MODEL in taken else "offers no Storage Commitment"
    if not destination.commitment:
        offered += ", which is off here"
    return f"answers C-ECHO{' over TLS' if destination.tls else ''}, {words}, {offered}"
