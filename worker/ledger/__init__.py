"""All SQL of the application. Each function takes a Session and leaves the commit to its caller.

The rules that keep one study one story:

- A row and the work it owes (`jobs`) are committed together.
- Work is claimed before it is done: the lease hides it from others until it expires, and the token
  that grows with each claim refuses the late write of a worker that lost its lease.
- Whatever changes a study takes its row first (``FOR UPDATE``), so that a late image and a report
  under way are ordered: either the report saw the image or it is made again.
"""

from worker.ledger.backlog import ON_THE_WAY, Backlog, Owed, backlog
from worker.ledger.catalogue import (
    Holding,
    Narrowing,
    holding,
    holdings_of,
    newest_paths,
    studies_by,
    studies_with,
    was_removed,
)
from worker.ledger.claiming import claim, due_bells
from worker.ledger.commitments import save_commitment, save_request
from worker.ledger.decisions import DecidedMeanwhile, locked_study
from worker.ledger.deliveries import (
    report_to_send,
    save_delivered,
    save_failed_delivery,
)
from worker.ledger.discard import discard
from worker.ledger.findings import (
    NewFinding,
    claimed_instances,
    model_row,
    ready_studies,
    save_finding,
    save_findings,
    withhold,
)
from worker.ledger.growth import last_instance, sizes_after
from worker.ledger.jobs import (
    BY_DESTINATION,
    Claim,
    LeaseLost,
    bury,
    dead_letters,
    depth,
    drop,
    extend,
    hand_back,
    is_held,
    owe,
    put_back,
    take_death_back,
)
from worker.ledger.notices import (
    Told,
    ToSend,
    notice_to_send,
    owe_notices,
    save_sent,
    save_unsent,
)
from worker.ledger.origins import Asked, Origin, asked, origin_of, origins
from worker.ledger.outages import end_outage, failures_of, outages, save_outage
from worker.ledger.reception import FileVanished, IsThere, close_association, record
from worker.ledger.removals import (
    bytes_removed,
    last_removed_at,
    named_paths,
    save_unnamed,
    unfinished,
    unfinished_of,
)
from worker.ledger.removing import (
    begin_erasure,
    finish_removal,
    is_owed,
    leaving,
    save_gone,
    studies_of,
)
from worker.ledger.reports import (
    NewCompanion,
    NewReport,
    Story,
    companions_of,
    forget_receptions,
    save_report,
    story,
)
from worker.ledger.requeue import requeue
from worker.ledger.retention import (
    Place,
    Rule,
    begin_removal,
    bytes_kept,
    may_go,
    oldest,
    unsized,
)
from worker.ledger.verdicts import (
    NewVerdict,
    count_verdicts,
    judged_since,
    save_verdict,
    verdicts_of,
)

__all__ = [
    "BY_DESTINATION",
    "ON_THE_WAY",
    "Asked",
    "Backlog",
    "Claim",
    "DecidedMeanwhile",
    "FileVanished",
    "Holding",
    "IsThere",
    "LeaseLost",
    "Narrowing",
    "NewCompanion",
    "NewFinding",
    "NewReport",
    "NewVerdict",
    "Origin",
    "Owed",
    "Place",
    "Rule",
    "Story",
    "ToSend",
    "Told",
    "asked",
    "backlog",
    "begin_erasure",
    "begin_removal",
    "bury",
    "bytes_kept",
    "bytes_removed",
    "claim",
    "claimed_instances",
    "close_association",
    "companions_of",
    "count_verdicts",
    "dead_letters",
    "depth",
    "discard",
    "drop",
    "due_bells",
    "end_outage",
    "extend",
    "failures_of",
    "finish_removal",
    "forget_receptions",
    "hand_back",
    "holding",
    "holdings_of",
    "is_held",
    "is_owed",
    "judged_since",
    "last_instance",
    "last_removed_at",
    "leaving",
    "locked_study",
    "may_go",
    "model_row",
    "named_paths",
    "newest_paths",
    "notice_to_send",
    "oldest",
    "origin_of",
    "origins",
    "outages",
    "owe",
    "owe_notices",
    "put_back",
    "ready_studies",
    "record",
    "report_to_send",
    "requeue",
    "save_commitment",
    "save_delivered",
    "save_failed_delivery",
    "save_finding",
    "save_findings",
    "save_gone",
    "save_outage",
    "save_report",
    "save_request",
    "save_sent",
    "save_unnamed",
    "save_unsent",
    "save_verdict",
    "sizes_after",
    "story",
    "studies_by",
    "studies_of",
    "studies_with",
    "take_death_back",
    "unfinished",
    "unfinished_of",
    "unsized",
    "verdicts_of",
    "was_removed",
    "withhold",
]
