"""When the governor acts next, from how things stand with one script."""

from __future__ import annotations

import math
import signal
from dataclasses import replace

from backprop_core.governor import kernel
from backprop_core.governor.observed import SessionView
from backprop_core.governor.order import Order
from backprop_core.governor.plan import Move, PlanFacts, PlannedMove, next_move
from backprop_core.governor.steering import Steering

_STAYS_TRUE_S = 0.25


class Planner:
    """Gathers the facts of one script for `plan.py`."""

    def __init__(self, order: Order, pid: int, session: SessionView, steering: Steering) -> None:
        self._order, self._pid, self._session, self._steering = order, pid, session, steering
        self._catches = (-math.inf, True)

    def plan(self, now: float) -> PlannedMove:
        """What is to be done next, and from which monotonic instant on."""
        steering = self._steering
        facts = PlanFacts(
            deadline=math.inf if steering.paused else steering.deadline,
            budget_s=self._order.budget_s,
            grace_s=self._order.grace_s,
            joined=self._session.ends_itself,
            catches_term=True,
            asked_at=steering.asked_at,
        )
        plan = next_move(facts)
        # Whether it catches SIGTERM is dear to find out, and does not matter before it would be asked if it did.
        if plan.move is Move.ASK and plan.due(now) and not self._catches_term(now):
            plan = next_move(replace(facts, catches_term=False))
        return plan

    def _catches_term(self, now: float) -> bool:
        if now >= self._catches[0]:
            self._catches = (now + _STAYS_TRUE_S, kernel.catches(self._pid, signal.SIGTERM))
        return self._catches[1]
