"""Rules that act before storing: they change records, take them apart, leave some out.

`compile_rules` turns the configuration's rules into `CompiledRules`, whose ``apply`` says what is
to be stored of runs of records; `RulesInForce` holds those that are in force. ``time`` and
``stream`` say when and where a record belongs: a rule changes them only where it takes a message
apart, and then to streams below the record's own, for which its sender's token stands.

A record that is left out uses its number up as if it had been stored, so that its source never
sends it again; it is counted, by rule. What does not fit goes to quarantine, and is nacked.

Rules with a ``window`` act after storing (`edge_agent.live`).

Where the microseconds go (CPU time, five fields; one record alone / in runs of 100): nothing where
there are no rules, 0.3 for a run whose stream none names. Else 4.5 / 2.5 for decoding and the walk
(a schema, or a condition that finds nothing), 6 / 3.3 for most changes, which encode anew; rename 7
/ 4.3, pseudonymise 10 / 6, pick 9 / 5, flatten 10 / 6.5, deadband 13 / 6, limit 11 / 4.5, a hook
that does little 21 / 12, the profile of Shelly 33 / 21: what it and a hook have made is read again.
"""

from __future__ import annotations

from edge_agent.rules.apply import CompiledRules, Ruled
from edge_agent.rules.compile import compile_rules
from edge_agent.rules.in_force import RulesInForce
from edge_agent.rules.steps import Step
from edge_agent.rules.time_keys import TimeKeyOf, compile_time_keys
from edge_agent.rules.trial import Trial, Tried, stream_for

__all__ = [
    "CompiledRules",
    "Ruled",
    "RulesInForce",
    "Step",
    "TimeKeyOf",
    "Trial",
    "Tried",
    "compile_rules",
    "compile_time_keys",
    "stream_for",
]
