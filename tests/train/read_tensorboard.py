"""Prints the scalars of a folder as TensorBoard reads them: one `tag step value time` a line."""

import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

accumulator = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
accumulator.Reload()
for tag in sorted(accumulator.Tags()["scalars"]):
    for point in accumulator.Scalars(tag):
        print(tag, point.step, repr(point.value), repr(point.wall_time))
