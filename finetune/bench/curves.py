"""Loss curves over trained tokens, and how far two of them are apart. Pure."""

from collections.abc import Sequence

from finetune.bench.work import Step

Curve = Sequence[tuple[float, float]]  # (trained tokens, loss in nats per trained token), tokens rising

PLACES = 64  # at which two curves are compared


def curve(steps: Sequence[Step]) -> list[tuple[float, float]]:
    """Return the loss of each step over the trained tokens up to the middle of it."""
    points: list[tuple[float, float]] = []
    done = 0
    for step in steps:
        points.append((done + step.trained / 2, step.loss))
        done += step.trained
    return points


def distance(one: Curve, other: Curve) -> float:
    """Return the mean absolute difference of two curves at equal trained tokens, in nats; 0 where they have none in common."""
    begin, end = max(one[0][0], other[0][0]), min(one[-1][0], other[-1][0])
    if begin > end:
        return 0.0
    places = [begin + (end - begin) * number / (PLACES - 1) for number in range(PLACES)]
    return sum(abs(at(one, place) - at(other, place)) for place in places) / PLACES


def mean(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """Return the mean of the curves of several rounds, at the places of the first one that all of them have."""
    begin, end = max(each[0][0] for each in curves), min(each[-1][0] for each in curves)
    places = [place for place, _ in curves[0] if begin <= place <= end] or [begin]
    return [(place, sum(at(each, place) for each in curves) / len(curves)) for place in places]


def at(points: Curve, place: float) -> float:
    """Return a curve's value at a place: on the line between its neighbours, and its first or last value beyond them."""
    before = points[0]
    for point in points:
        if point[0] >= place:
            span = point[0] - before[0]
            return point[1] if span == 0 else before[1] + (point[1] - before[1]) * (place - before[0]) / span
        before = point
    return before[1]
