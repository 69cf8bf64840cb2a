"""What the command line says of a trial, and of the drift of a population."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from worker.agreement import Share
from worker.comparing import BARS, MOST, OUTCOMES, Comparison, Measured, outcome
from worker.drift import FEWEST, Drift, Report, Window, against_training, over_time
from worker.ledger.populations import model_of

if TYPE_CHECKING:
    from model.predict import ModelInfo

RULE = (
    "PSI, beyond what chance makes of so few images: below 0.1 little has changed, from 0.25 on "
    "much. A change is no fault: it says that the model sees other images than before."
)


# --- a trial ---------------------------------------------------------------------------------


def comparison_lines(found: Comparison) -> Iterator[str]:
    """Tell of a trial, a line each."""
    model = found.model
    state = (
        "is tried" if found.until is None else f"was tried until {found.until.astimezone():%F %T}"
    )
    yield f"{model.name} {model.version}, digest {model.digest[:16]}, {state}"
    yield f"since {found.since.astimezone():%F %T}; it has still to look at {found.behind} answers"
    if found.last_error:
        yield f"it could not be tried the last time: {found.last_error}"
    if not found.count:
        yield "It has seen no image yet."
        return
    cut = f", the newest {MOST}" if found.is_cut else ""
    yield f"images seen by both: {found.count}{cut}"
    yield f"same answer: {share_words(found.same)}"
    yield from _table(found)
    yield from _differences(found)
    yield f"images judged by readers who do not contradict each other: {found.judged}"
    yield from _measured("in use", found.live)
    yield from _measured("candidate", found.tried)
    if found.disagreed:
        yield "the newest images with different answers (in use, candidate):"
    for row in found.disagreed:
        said = f"{outcome(row.live_finding)}, {outcome(row.finding)}"
        yield f"  {row.study_instance_uid}  {said}"


def _table(found: Comparison) -> Iterator[str]:
    yield "in use \\ candidate".ljust(20) + "".join(f"{each:>14}" for each in OUTCOMES)
    for live in OUTCOMES:
        cells = (f"{found.table.get((live, tried), 0):>14}" for tried in OUTCOMES)
        yield f"{live:<20}{''.join(cells)}"


def _differences(found: Comparison) -> Iterator[str]:
    of = found.differences
    if of is None:
        return
    yield (
        f"score of the candidate less that in use: median {of.median:+.3f}, 90 % from {of.low:+.3f}"
        f" to {of.high:+.3f}, of {of.count}"
    )
    most = max(of.bars)
    for number, count in enumerate(of.bars):
        if count:
            low = number * 2 / BARS - 1
            bar = "#" * max(1, round(40 * count / most))
            yield f"  {low:+.1f} to {low + 2 / BARS:+.1f}  {count:>7}  {bar}"


def _measured(name: str, of: Measured) -> Iterator[str]:
    yield (
        f"{name}: sensitivity {share_words(of.sensitivity)}; "
        f"specificity {share_words(of.specificity)}"
    )


def share_words(share: Share | None) -> str:
    """Give a share with its interval."""
    if share is None:
        return "none"
    low, high = share.interval
    return f"{share.value:.1%} ({low:.1%} to {high:.1%}, of {share.whole})"


# --- a population ----------------------------------------------------------------------------


def drift_of(
    session: Session, info: ModelInfo, window: Window, baseline: Window | None
) -> Iterator[str]:
    """Tell how the images of a time differ from those of another, or of the training if None."""
    row = model_of(session, info.digest)
    if row is None:
        yield f"{info.name} {info.version} has not answered yet: there is nothing to compare."
        return
    yield f"{info.name} {info.version}, images received {_time(window)}"
    if baseline is None:
        yield "compared with the held-out images that it was measured on"
        found = against_training(session, row.id, window, info.metrics)
    else:
        yield f"compared with those {_time(baseline)}"
        found = over_time(session, row.id, window, baseline)
    yield from _report(found)


def _time(window: Window) -> str:
    return f"from {window.since.astimezone():%F %T} to {window.until.astimezone():%F %T}"


def _report(found: Report) -> Iterator[str]:
    yield f"images: {found.now}, compared with {found.before}"
    if found.is_cut:
        yield "there were more: the newest of them are compared"
    if found.too_few:
        yield f"These are too few to say anything: it takes {FEWEST} on either side."
        return
    yield RULE
    for each in found.drifts:
        yield from _drift(each)


def _drift(of: Drift) -> Iterator[str]:
    yield f"{of.what}: {of.change} (PSI {of.psi:.3f}, {of.by_chance:.3f} by chance)"
    if of.ks is not None and of.p is not None:
        how = "hardly by chance" if of.is_unlikely else "may be chance"
        yield f"  Kolmogorov-Smirnov statistic {of.ks:.3f}, p {of.p:.2g}: {how}"
    for each in of.shifts:
        yield f"  {each.value or '(empty)'}: {each.before:.1%} -> {each.now:.1%}"
