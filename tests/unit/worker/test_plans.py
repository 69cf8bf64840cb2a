"""No statement of the product reads a table that grows: its plan says so, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, select, text, update

from benchmarks.synthetic import AWAY, DIGEST, NOW, OTHER, PACS, fill, study_uid
from dicom_node.commitment import Commitment
from tests.fakes import delivered, new_uid, received
from tests.ledgers import FOUND, QUIET, SILENCE, Desk
from tests.plans import Statement, complaints, overheard
from worker import chart, database, given_up, ledger, listing, news, results, worklist
from worker.ledger import (
    Claim,
    Narrowing,
    NewCompanion,
    NewReport,
    NewVerdict,
    Rule,
    candidates,
    model_events,
    populations,
    set_back,
)
from worker.states import (
    CompanionKind,
    Finding,
    JobKind,
    Label,
    ModelAction,
    RemovalCause,
    RemovalKind,
    StudyState,
    Verdict,
)
from worker.tables import (
    Base,
    Candidate,
    CommitmentRequest,
    Delivery,
    Instance,
    Job,
    Removal,
    Study,
)
from worker.worklist import Answer, Order, Wanted

CLASSIFY, REPORT, DELIVER, COMMIT, NOTIFY = JobKind
STUDIES, OWED = 2600, 50
# Who asks for the first of all rows, and may go along an index for them.
IN_ORDER = {
    "find_studies: newest", "studies_by: all", "newest_paths", "due_bells", "backlog",
    "worklist: newest", "list_studies: newest", "list_studies: answer",
    "oldest: IMAGES", "oldest: REPORTS", "oldest: RESULTS", "unfinished", "last_instance",
    # ... or for those after the last that was seen.
    "begin_trial", "is_trial_due", "claim_trial", "compared", "disagreed", "count_unseen", "events",
}  # fmt: skip
LISTS = {"list_studies", "find_study"}
# What counts all that is owed reads it; a person asks for it.
COUNTS = {"depth"}

# What others call, with no statement of their own.
WITHIN = {"artifact_of", "candidate", "last_candidate"}
FINDINGS = Base.metadata.tables["findings"]

Ask = Callable[[str, Callable[..., Any]], Any]


def facts(**changes: Any) -> Any:
    return replace(received(received_at=NOW), **changes)


def one(desk: Desk, *conditions: Any) -> int:
    """Find the subject of some owed work."""
    with desk.sessions() as session:
        found = session.scalars(select(Job.subject_id).where(*conditions).limit(1)).one()
    return found


def ask_everything(desk: Desk, ask: Ask) -> None:
    """Call whatever has a statement, under its name; ``name: case`` where there are several."""
    _receive(ask)
    _query(desk, ask)
    model = ask("model_row", lambda s: ledger.model_row(
        s, name="m", version="1", digest=DIGEST, details={}, now=NOW))  # fmt: skip
    _classify(ask, model)
    _report(ask, model)
    _deliver(desk, ask)
    _commit(desk, ask)
    _notify(ask)
    _watch(ask)
    _give_up(desk, ask)
    _judge(ask)
    _remove(desk, ask)
    _try_a_candidate(desk, ask, model)


def _try_a_candidate(desk: Desk, ask: Ask, model: int) -> None:
    now, hour = NOW + timedelta(hours=1), timedelta(hours=1)
    tried = candidates.Artifact("m", "2", "e" * 64, "m-2")
    desk.do(lambda s: s.execute(delete(Job).where(Job.kind == CLASSIFY)))  # it waits for these
    ask("begin_trial", lambda s: candidates.begin_trial(s, tried, NOW))
    desk.do(lambda s: s.execute(update(Candidate).values(seen_id=STUDIES - 10)))
    assert ask("is_trial_due", lambda s: candidates.is_trial_due(s, now, hour / 4))
    trial = ask("claim_trial", lambda s: candidates.claim_trial(s, now, hour / 4, hour, 4))
    shown = ask("shown_instances", lambda s: candidates.shown_instances(s, trial))
    found = dict.fromkeys(shown, FOUND)
    assert ask("save_shadows", lambda s: candidates.save_shadows(s, trial, found, now))
    ask("put_trial_off", lambda s: candidates.put_trial_off(s, trial, NOW, "why"))
    ask("judged_of_trial", lambda s: candidates.judged_of_trial(s, candidates.last_candidate(s)))
    for name in ("compared", "disagreed", "count_unseen"):
        ask(name, lambda s, n=name: getattr(candidates, n)(s, candidates.last_candidate(s), 20))
    ask("save_event", lambda s: model_events.save_event(
        s, ModelAction.SHADOWED, tried, "who", NOW))  # fmt: skip
    ask("events", lambda s: model_events.events(s, 20))
    ask("last_change", model_events.last_change)
    ask("model_of", lambda s: populations.model_of(s, DIGEST))
    images, _ = ask("population", lambda s: populations.population(s, model, NOW - hour, NOW, 50))
    assert images
    ask("end_trial", lambda s: candidates.end_trial(s, NOW))


def _judge(ask: Ask) -> None:
    hour = NOW - timedelta(hours=1)
    new = NewVerdict(
        study_uid(7) + ".1.1", 1, Finding.ABSENT, Verdict.DISAGREE, Label.PNEUMONIA, "", "anna"
    )
    assert ask("save_verdict", lambda s: ledger.save_verdict(s, study_uid(7), new, NOW))
    assert len(ask("verdicts_of", lambda s: ledger.verdicts_of(s, [7, 8]))) == 3
    assert ask("count_verdicts", lambda s: ledger.count_verdicts(s, hour, NOW))
    assert ask("judged_since", lambda s: ledger.judged_since(s, hour))


def _watch(ask: Ask) -> None:
    found = ask("backlog", lambda s: ledger.backlog(s, most=30))
    assert found.owed[DELIVER, AWAY].count == 30
    hour = timedelta(hours=1)
    ask("bring_forward", lambda s: set_back.bring_forward(s, [PACS], NOW, 1000 * hour, hour))
    assert found.dead
    assert list(found.away_since) == [AWAY]


def _removed(session: Any, known: Any) -> Any:
    """Remove an instance; give another of its UID."""
    uid = Instance.sop_instance_uid == known.sop_instance_uid
    session.execute(update(Instance).where(uid).values(removed_at=NOW))
    return replace(known, sha256="f" * 64)


def _receive(ask: Ask) -> None:
    new = facts(study_instance_uid=new_uid(), association_id="new")
    second = replace(new, sop_instance_uid=new_uid())
    elsewhere = replace(new, study_instance_uid=new_uid())
    cases = {"new study": new, "known study": second, "duplicate": new, "conflict": elsewhere}
    for case, each in cases.items():
        ask(f"record: {case}", lambda s, each=each: ledger.record(s, each, quiet=QUIET))
    ask("record: again", lambda s: ledger.record(s, _removed(s, new), quiet=QUIET))
    ask("origin_of", lambda s: ledger.origin_of(s, new.study_instance_uid))
    ask("close_association", lambda s: ledger.close_association(s, "new"))


def _query(desk: Desk, ask: Ask) -> None:
    find = results.find_studies
    for case, wanted in {
        "newest": {}, "study": {"study": study_uid(7)}, "accession": {"accession": "ACC-7"},
        "patient": {"patient_id": "PAT-7"}, "state": {"state": StudyState.FAILED},
        "since": {"since": NOW - timedelta(hours=1)},
        "patient since": {"patient_id": "PAT-7", "since": NOW - timedelta(days=9)},
        "state since": {"state": StudyState.DELIVERED, "since": NOW - timedelta(days=9)},
    }.items():  # fmt: skip
        ask(f"find_studies: {case}", lambda s, w=wanted: find(s, **w, limit=50))
    _look_through(ask)
    _list(ask)
    dates = {"study_date_from": "20100101", "study_date_to": "20100131"}
    for case, narrowing in {
        "all": {}, "study": {"study_instance_uids": (study_uid(7), study_uid(8))},
        "patient": {"patient_id": "PAT-7"}, "accession": {"accession_number": "ACC-7"},
        "dates": dates, "patient and dates": {"patient_id": "PAT-7", **dates},
    }.items():  # fmt: skip
        after = None
        for _ in range(3):  # pages
            page = ask(f"studies_by: {case}", lambda s, n=narrowing, a=after: ledger.studies_by(
                s, Narrowing(**n), after=a, limit=5))  # fmt: skip
            after = page[-1] if page else after
    undated = desk.do(lambda s: s.scalar(select(Study).where(Study.study_date == "").limit(1)))
    ask("studies_by: dates", lambda s: ledger.studies_by(
        s, Narrowing(**dates), after=undated, limit=5))  # fmt: skip
    ask("holdings_of", lambda s: ledger.holdings_of(s, [7, 8, 9]))
    ask("holding", lambda s: ledger.holding(s, study_uid(7) + ".2.1"))
    known = study_uid(7) + ".2.1"
    ask("studies_with", lambda s: ledger.studies_with(s, [known, "1.2.3"]))
    ask("was_removed", lambda s: ledger.was_removed(s, study_uid(7), known))
    ask("was_removed: unknown", lambda s: ledger.was_removed(s, study_uid(7), "1.2.3"))
    ask("newest_paths", lambda s: ledger.newest_paths(s, 20))
    ask("dead_letters", ledger.dead_letters)
    ask("given_up.dead_letters", lambda _: given_up.dead_letters(desk.sessions, PACS))
    ask("depth", ledger.depth)
    ask("outages", ledger.outages)
    ask("due_bells", lambda s: ledger.due_bells(s, NOW, SILENCE))


def _look_through(ask: Ask) -> None:
    hour, day = NOW - timedelta(hours=1), NOW - timedelta(days=1)
    for case, wanted in {
        "newest": Wanted(), "words": Wanted("ACC-7"), "state": Wanted(state=StudyState.FAILED),
        "since": Wanted(since=hour), "between": Wanted(since=day, until=hour),
        "answer": Wanted(answer=Answer.PRESENT, since=hour),
        "pending": Wanted(answer=Answer.PENDING), "urgent": Wanted(since=hour, order=Order.URGENT),
        "urgent answer": Wanted(answer=Answer.PRESENT, since=hour, order=Order.URGENT),
    }.items():  # fmt: skip
        ask(f"worklist: {case}", lambda s, w=wanted: worklist.page(s, w, 0))
        ask(f"worklist: {case}", lambda s, w=wanted: worklist.page(s, w, 50))
    ask("chart", lambda s: chart.chart(s, study_uid(7)))


def _list(ask: Ask) -> None:
    hour, day = NOW - timedelta(hours=1), NOW - timedelta(days=1)
    for case, wanted in {
        "newest": {}, "accession": {"accession": "ACC-7"}, "patient": {"patient_id": "PAT-7"},
        "study": {"study": study_uid(7)}, "state": {"state": StudyState.FAILED},
        "since": {"since": hour}, "between": {"since": day, "until": hour},
        "state between": {"state": StudyState.DELIVERED, "since": day, "until": hour},
        "answer": {"answer": Answer.NOT_ASSESSED},
        "answer since": {"answer": Answer.PRESENT, "since": hour},
    }.items():  # fmt: skip
        after = None
        for _ in range(3):  # pages
            page = ask(f"list_studies: {case}", lambda s, w=wanted, a=after: listing.list_studies(
                s, listing.Criteria(**w), a, 20))  # fmt: skip
            after = page.following or after
    ask("find_study", lambda s: listing.find_study(s, study_uid(7)))


def _claim(ask: Ask, kind: JobKind, limit: int = 1, destination: str = "") -> list[Claim]:
    found: list[Claim] = ask(f"claim: {kind} {destination}", lambda s: ledger.claim(
        s, kind, limit, NOW, timedelta(seconds=300), silence=SILENCE,
        destination=destination))  # fmt: skip
    return found


def _classify(ask: Ask, model: int) -> None:
    claims = _claim(ask, CLASSIFY, 8)
    assert len(claims) == 8
    ask("claimed_instances", lambda s: ledger.claimed_instances(s, claims))
    ask("origins", lambda s: ledger.origins(s, [each.study_id for each in claims]))
    ask("extend", lambda s: ledger.extend(s, claims[0], NOW + timedelta(seconds=300)))
    ask("save_finding", lambda s: ledger.save_finding(s, claims[0], model, FOUND, NOW))
    rest = dict.fromkeys(claims[6:], FOUND)
    assert ask("save_findings", lambda s: ledger.save_findings(s, model, rest, NOW)) == set(rest)
    ask("withhold", lambda s: ledger.withhold(s, 20, [study_uid(20) + ".1.1"]))
    ask("ready_studies", lambda s: ledger.ready_studies(
        s, [each.study_id for each in claims], NOW, SILENCE))  # fmt: skip
    ask("put_back", lambda s: ledger.put_back(s, claims[1], NOW, "failed"))
    ask("hand_back", lambda s: ledger.hand_back(s, claims[2], NOW, "failed", counts=True))
    ask("take_death_back", lambda s: ledger.take_death_back(s, claims[3]))
    ask("drop", lambda s: ledger.drop(s, claims[4:5]))
    ask("bury", lambda s: ledger.bury(s, claims[5], "failed"))


def _report(ask: Ask, model: int) -> None:
    (claim,) = _claim(ask, REPORT)
    assert ask("is_held", lambda s: ledger.is_held(s, claim))
    told = ask("story", lambda s: ledger.story(s, claim.study_id, NOW))
    assert told.last_report.revision == 1
    ask("forget_receptions", lambda s: ledger.forget_receptions(s, claim.study_id, NOW))
    new = NewReport(new_uid(), "1.2.3", "r.dcm", "e" * 64, 2, model)
    along = NewCompanion(CompanionKind.PICTURE, "1.2.4", new_uid(), "p.dcm", "e" * 64)
    ask("save_report", lambda s: ledger.save_report(s, claim, new, [PACS, OTHER], NOW, [along]))


def _deliver(desk: Desk, ask: Ask) -> None:
    (claim,) = _claim(ask, DELIVER, destination=PACS)
    (other,) = _claim(ask, DELIVER, destination=OTHER)
    assert _claim(ask, DELIVER, destination=AWAY) == []
    report = ask("report_to_send", lambda s: ledger.report_to_send(s, claim))
    ask("companions_of", lambda s: ledger.companions_of(s, report.id, list(CompanionKind)))
    taken = delivered(0, report.sop_instance_uid)
    ask("save_delivered", lambda s: ledger.save_delivered(s, claim, taken, "0", NOW, commit=True))
    ask("save_failed_delivery", lambda s: ledger.save_failed_delivery(s, other, None, "no", NOW))
    ask("failures_of", lambda s: ledger.failures_of(s, OTHER))
    ask("save_outage", lambda s: ledger.save_outage(s, OTHER, NOW, NOW, "no route"))
    ask("end_outage", lambda s: ledger.end_outage(s, OTHER))
    desk.do(ledger.end_outage, OTHER)


def _commit(desk: Desk, ask: Ask) -> None:
    claims = _claim(ask, COMMIT, 3, PACS)
    assert len(claims) == 3
    asked = ask("save_request", lambda s: ledger.save_request(s, claims, "1.2.9", NOW))
    with desk.sessions() as session:
        about = session.scalars(
            select(Delivery.sop_instance_uid)
            .join(CommitmentRequest, CommitmentRequest.delivery_id == Delivery.id)
            .where(CommitmentRequest.transaction_uid == "1.2.9")
        ).all()
    assert len(asked) == len(about) == 3
    assert len(ask("asked", lambda s: ledger.asked(s, "1.2.9"))) == 3
    answer = Commitment("1.2.9", (str(about[0]),), ((str(about[1]), 0x0112),))
    ask("save_commitment", lambda s: ledger.save_commitment(s, answer, NOW))


def _notify(ask: Ask) -> None:
    (claim,) = _claim(ask, NOTIFY, destination="webhook")
    assert ask("notice_to_send", lambda s: ledger.notice_to_send(s, claim))
    ask("save_sent", lambda s: ledger.save_sent(s, claim, 204, "taken", NOW))
    (other,) = _claim(ask, NOTIFY, destination="webhook")
    ask("save_unsent", lambda s: ledger.save_unsent(s, other, 503, "away", NOW))
    told = ask("news.told", lambda s: news.told(s, 7))
    for case, finding in {"no more": "ABSENT", "again": "PRESENT"}.items():
        positive = told.positive if finding == "PRESENT" else frozenset()
        changed = replace(told, finding=finding, positive=positive)
        ask(f"owe_notices: {case}", lambda s, told=changed: ledger.owe_notices(
            s, 7, told, ["webhook"], NOW, news.new_id))  # fmt: skip


def _give_up(desk: Desk, ask: Ask) -> None:
    owed = one(desk, Job.kind == DELIVER, Job.destination == AWAY)
    ask("owe", lambda s: ledger.owe(s, DELIVER, owed, owed, NOW, AWAY))
    kinds = {"classification": CLASSIFY, "report": REPORT, "delivery": DELIVER, "notice": NOTIFY}
    for case, kind in kinds.items():
        for name, decide in {
            "requeue": lambda s, study: ledger.requeue(s, study, NOW, "why", "who"),
            "discard": lambda s, study: ledger.discard(s, study, "why", "who", NOW),
        }.items():
            study = study_uid(one(desk, Job.kind == kind, Job.state == "DEAD"))
            ask(f"{name}: {case}", lambda s, d=decide, study=study: d(s, study))
    ask("locked_study", lambda s: ledger.locked_study(s, study_uid(3)))
    ask("requeue: all anew", lambda s: ledger.requeue(s, study_uid(3), NOW))


def _remove(desk: Desk, ask: Ask) -> None:
    for kind in (RemovalKind.IMAGES, RemovalKind.REPORTS, RemovalKind.RESULTS):
        rule = Rule(kind, RemovalCause.AGE, NOW - timedelta(hours=10), NOW - SILENCE)
        after = None
        for _ in range(2):
            page = ask(f"oldest: {kind}", lambda s, r=rule, a=after: ledger.oldest(s, r, a, 20))
            after = page[-1]
        ids = [place.study_id for place in page]
        free = ask(f"may_go: {kind}", lambda s, r=rule, ids=ids: ledger.may_go(s, r, ids))
        assert free
        begun = ask(f"begin_removal: {kind}", lambda s, r=rule, ids=ids: ledger.begin_removal(
            s, ids[0], r, NOW, len))  # fmt: skip
        if begun is not None:
            _finish(ask, kind, begun)
    space = Rule(RemovalKind.IMAGES, RemovalCause.SPACE, NOW, NOW - SILENCE)
    ask("may_go: space", lambda s: ledger.may_go(s, space, [7, 8, 9]))
    ask("bytes_kept", lambda s: ledger.bytes_kept(s, 7))
    ask("unsized", lambda s: ledger.unsized(s, 7))
    ask("unfinished", lambda s: ledger.unfinished(s, 20))
    ask("bytes_removed", lambda s: ledger.bytes_removed(s, NOW))
    assert ask("last_instance", ledger.last_instance)
    assert ask("sizes_after", lambda s: ledger.sizes_after(s, 7, 20))
    ask("last_removed_at", lambda s: ledger.last_removed_at(s, study_uid(7)))
    ask("named_paths", lambda s: ledger.named_paths(s, [study_uid(7) + ".1.1", study_uid(8)]))
    ask("save_unnamed", lambda s: ledger.save_unnamed(
        s, study_uid(7), 1, 1, RemovalCause.UNNAMED, "who", NOW))  # fmt: skip
    (study,) = ask("studies_of: study", lambda s: ledger.studies_of(
        s, study_instance_uid=study_uid(11)))  # fmt: skip
    ask("studies_of: patient", lambda s: ledger.studies_of(s, patient_id="PAT-7"))
    ask("is_owed", lambda s: ledger.is_owed(s, study.id, NOW, hold=True))
    erased = ask("begin_erasure", lambda s: ledger.begin_erasure(
        s, study.id, "who", "why", NOW, len))  # fmt: skip
    ask("unfinished_of", lambda s: ledger.unfinished_of(s, study_uid(11)))
    for each in erased:
        _finish(ask, f"erased {each.kind}", each)


def _finish(ask: Ask, case: str, removal: Removal) -> None:
    paths = ask(f"leaving: {case}", lambda s: ledger.leaving(s, removal, 50))
    ask(f"save_gone: {case}", lambda s: ledger.save_gone(s, removal, paths))
    ask(f"finish_removal: {case}", lambda s: ledger.finish_removal(s, removal, NOW))


@pytest.fixture
def filled(engine: Engine) -> Engine:
    fill(engine, STUDIES, OWED)
    return engine


def statements_of(engine: Engine) -> list[Statement]:
    """Ask everything, and give the statements that were made of it."""
    desk, heard = Desk(database.build_sessions(engine)), list[Statement]()
    desk.clock.now = NOW

    def ask(name: str, work: Callable[..., Any]) -> Any:
        before = len(heard)
        with overheard(engine, name, heard):
            answer = desk.do(work)
        assert len(heard) > before, f"{name} asked nothing"
        return answer

    ask_everything(desk, ask)
    return heard


def explained(engine: Engine, statements: Sequence[Statement]) -> Iterator[str]:
    """Give what is to be complained of."""
    unlike = {(each.asker, each.text): each for each in statements}
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # It still reads a whole table where no index serves. These tables are small.
            for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"):
                connection.execute(text(f"SET enable_{way} = off"))
        for each in unlike.values():
            if each.asker in COUNTS:
                continue
            found = complaints(connection, each, in_order=each.asker in IN_ORDER)
            yield from (f"{each.asker}: {why}\n{each.text}" for why in found)


@pytest.mark.parametrize("known", ["nothing", "its tables"])
def test_no_plan_reads_a_table_that_grows(filled: Engine, known: str) -> None:
    """Whether or not the database has statistics, which SQLite has only when it is asked to."""
    statements = statements_of(filled)
    if known == "its tables":
        with filled.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))
    if found := list(explained(filled, statements)):
        pytest.fail("\n\n".join(found))


def test_everything_that_the_ledger_does_is_looked_at(filled: Engine) -> None:
    asked = {each.asker.partition(":")[0] for each in statements_of(filled)}
    does = {name for name in ledger.__all__ if isinstance(getattr(ledger, name), FunctionType)}
    does |= {
        name
        for module in (candidates, model_events, populations, set_back)
        for name, made in vars(module).items()
        if isinstance(made, FunctionType)
        and made.__module__ == module.__name__
        and not name.startswith("_")
    } - WITHIN
    assert asked == does | {
        "find_studies",
        "given_up.dead_letters",
        "worklist",
        "chart",
        "news.told",
        *LISTS,
    }


# What grows with what is owed: whatever lists or counts it, and the search for a study that may be
# reported among those that wait for their images.
GROWS = {"depth", "dead_letters", "given_up.dead_letters", "due_bells", "claim: REPORT "}


@pytest.mark.parametrize(
    ("studies", "owed", "grows"), [(4 * STUDIES, OWED, set()), (4 * STUDIES, 4 * OWED, GROWS)]
)
def test_everything_takes_as_much_work_among_more_of_it(
    tmp_path: Path, studies: int, owed: int, grows: set[str]
) -> None:
    """Counted in instructions of SQLite's machine, which are the same on every run."""
    before, after = work_of(tmp_path, STUDIES, OWED), work_of(tmp_path, studies, owed)
    more = {
        asker: (steps, after[asker])
        for asker, steps in before.items()
        if asker not in grows and after[asker] > 1.25 * steps + 300
    }
    assert more == {}
    for asker in grows - {"due_bells"}:
        assert after[asker] < 5 * before[asker]


def work_of(folder: Path, studies: int, owed: int) -> dict[str, int]:
    """Count the instructions for everything that may be asked; for each asker, the most."""
    url = f"sqlite:///{folder / f'{studies}-{owed}.sqlite3'}"
    database.upgrade(url)
    engine = database.build_engine(url)
    fill(engine, studies, owed)
    engine.dispose()
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    event.listen(engine, "connect", lambda each, _: each.set_progress_handler(step, 1))
    desk, most = Desk(database.build_sessions(engine)), dict[str, int]()
    desk.clock.now = NOW

    def ask(name: str, work: Callable[..., Any]) -> Any:
        before = steps
        answer = desk.do(work)
        most[name] = max(most.get(name, 0), steps - before)
        return answer

    ask_everything(desk, ask)
    engine.dispose()
    return most


@pytest.mark.parametrize(
    ("index", "asker"),
    [
        ("ix_jobs_owed", "claim: CLASSIFY "),
        ("ix_jobs_dead", "dead_letters"),
        ("ix_studies_accession_number_received_at_id", "find_studies: accession"),
        ("ix_studies_study_date_id", "studies_by: dates"),
        ("ix_instances_study_id", "story"),
        ("ix_instances_kept", "oldest: IMAGES"),
        ("ix_reports_kept", "oldest: REPORTS"),
        ("ix_verdicts_decided_at", "count_verdicts"),
        ("ix_verdicts_instance_id_model_id_person_id", "verdicts_of"),
    ],
)
def test_an_index_that_is_missing_is_noticed(filled: Engine, index: str, asker: str) -> None:
    statements = statements_of(filled)
    table = next(
        table for table in Base.metadata.tables.values() for i in table.indexes if i.name == index
    )
    (made,) = (each for each in table.indexes if each.name == index)
    made.drop(filled)
    try:
        found = [each for each in explained(filled, statements) if each.startswith(f"{asker}: ")]
    finally:
        made.create(filled)
    assert found


def test_every_reference_has_an_index() -> None:
    """Without one, deleting what is referred to reads all that may refer to it."""
    for table in Base.metadata.tables.values():
        indexed = [next(iter(index.columns)).name for index in table.indexes]
        indexed += [
            next(iter(each.columns)).name
            for each in table.constraints
            if type(each).__name__ in {"UniqueConstraint", "PrimaryKeyConstraint"}
        ]
        for reference in table.foreign_keys:
            if reference.column.table.name != "models":  # never deleted
                assert {reference.parent.name} <= set(indexed) or table.name == "receptions"
