from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wanasync.rules.agenda import MAX_OVERTAKING, MAX_QUEUES, Agenda, Planned


class Waits:
    """A first wait that can be changed, as learning does."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def __call__(self, estimate: float) -> float:
        return self.share * estimate


def agenda(share: float = 0.5) -> Agenda[Planned]:
    return Agenda(Waits(share))


def pop_all(agenda: Agenda[Planned], until: float) -> list[Planned]:
    items = []
    while (item := agenda.pop(until)) is not None:
        items.append(item)
    return items


def test_an_empty_agenda_has_nothing_due() -> None:
    assert agenda().next_due() is None
    assert agenda().pop(1e9) is None


def test_an_unseen_item_is_due_at_the_age_that_holds_now() -> None:
    waits = Waits(0.5)
    agenda = Agenda[Planned](waits)
    item = Planned(born=10.0, estimate=100.0)
    agenda.add(item)
    assert agenda.next_due() == 60
    waits.share = 0.2
    assert agenda.next_due() == 30
    assert agenda.pop(29.9) is None
    assert agenda.pop(30) is item
    assert agenda.next_due() is None


def test_items_come_in_order_of_their_times_whatever_their_estimates() -> None:
    plan = agenda()
    slow, quick, seen = Planned(0.0, 100.0), Planned(1.0, 10.0), Planned(0.0, 100.0)
    plan.add(slow)
    plan.add(quick)
    plan.plan(seen, 20.0)
    assert pop_all(plan, 100) == [quick, seen, slow]


def test_urgent_items_come_first_and_keep_their_planned_look() -> None:
    plan = agenda()
    item, other = Planned(0.0, 100.0), Planned(0.0, 10.0)
    plan.add(item)
    plan.add(other)
    plan.urge(item, 7.0)
    assert plan.next_due() == 5
    assert plan.pop(7) is item
    assert pop_all(plan, 100) == [other, item]


def test_planning_an_item_that_stands_in_line_changes_nothing() -> None:
    plan = agenda()
    item = Planned(0.0, 100.0)
    plan.add(item)
    plan.plan(item, 1.0)
    assert len(plan) == 1
    assert plan.next_due() == 50


def test_submissions_that_overtook_each_other_are_put_in_order() -> None:
    plan = agenda()
    items = [Planned(float(born), 100.0) for born in (3, 1, 2, 5, 4, 0)]
    for item in items:
        plan.add(item)
    assert [item.born for item in pop_all(plan, 1000)] == [0, 1, 2, 3, 4, 5]


def test_an_item_far_out_of_order_is_given_a_time_of_its_own() -> None:
    plan = agenda()
    for born in range(1, 2 * MAX_OVERTAKING):
        plan.add(Planned(float(born), 100.0))
    old = Planned(0.0, 100.0)
    plan.add(old)
    assert plan.next_due() == 50
    assert plan.pop(50) is old
    assert [item.born for item in pop_all(plan, 1000)] == list(range(1, 2 * MAX_OVERTAKING))


def test_any_number_of_different_estimates_is_served() -> None:
    plan = agenda()
    items = [Planned(0.0, 10.0 + number) for number in range(3 * MAX_QUEUES)]
    for item in reversed(items):
        plan.add(item)
    assert pop_all(plan, 1000) == items


def test_a_dropped_item_never_comes_up() -> None:
    plan = agenda()
    kept, dropped, urgent = (Planned(0.0, 100.0) for _ in range(3))
    for item in (kept, dropped, urgent):
        plan.add(item)
    plan.urge(urgent, 0.0)
    plan.drop(dropped)
    plan.drop(urgent)
    assert pop_all(plan, 1000) == [kept]


def test_what_is_left_of_dropped_items_does_not_pile_up() -> None:
    plan = agenda()
    for number in range(20_000):
        item = Planned(float(number), 100.0)
        plan.add(item)
        plan.drop(item)
    assert len(plan) < 2100


class AgainstModel(RuleBasedStateMachine):
    """Against a plain list of items with their times."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = Waits()
        self.agenda = Agenda[Planned](self.waits)
        self.born = 0.0
        self.unseen: list[Planned] = []
        self.planned: list[Planned] = []
        self.out: list[Planned] = []

    @rule(step=st.floats(0, 10), estimate=st.sampled_from([10.0, 50.0, 100.0]))
    def add(self, step: float, estimate: float) -> None:
        self.born += step
        item = Planned(self.born, estimate)
        self.agenda.add(item)
        self.unseen.append(item)

    @rule(share=st.floats(0.1, 2))
    def learn(self, share: float) -> None:
        self.waits.share = share

    @rule(due=st.floats(0, 200))
    def plan(self, due: float) -> None:
        if self.out:
            item = self.out.pop()
            self.agenda.plan(item, due)
            self.planned.append(item)

    @rule(until=st.floats(0, 300))
    def pop(self, until: float) -> None:
        due = [(item.born + self.waits(item.estimate), item) for item in self.unseen]
        due += [(item.due, item) for item in self.planned]
        first = min(due, default=None, key=lambda entry: entry[0])
        item = self.agenda.pop(until)
        if first is None or first[0] > until:
            assert item is None
            return
        assert item is not None
        assert [time for time, known in due if known is item] == [first[0]]
        (self.unseen if item in self.unseen else self.planned).remove(item)
        self.out.append(item)

    @rule(number=st.integers(0, 100))
    def drop(self, number: int) -> None:
        items = self.unseen + self.planned
        if items:
            item = items[number % len(items)]
            self.agenda.drop(item)
            (self.unseen if item in self.unseen else self.planned).remove(item)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.agenda) >= len(self.unseen) + len(self.planned)
        assert all(item.queued for item in self.unseen + self.planned)
        assert not any(item.queued for item in self.out)


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
