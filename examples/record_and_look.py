"""Record a replay's events to a file, and look at them: what was measured, and who stands out."""

import tempfile
from pathlib import Path

import kvatlas
from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.recorded import recording_header
from kvatlas.events import EventWriter, open_recording
from kvatlas.measure.run import RunMeasurement
from kvatlas.workload import generate

workload = generate("conversation", seed=0, num_requests=600)
config, drive = EngineConfig(num_blocks=1_500), DriveConfig(arrivals="timed")

# The engine hands out its events in chunks whose memory it uses again; the writer takes them as
# they come and encodes in a thread of its own. The same: kvatlas replay --events run.parquet
replay = Replay(workload, config, drive)
header = recording_header(replay, version=kvatlas.__version__, engine="vLLM 0.32")
with tempfile.TemporaryDirectory() as folder:
    path = str(Path(folder) / "run.parquet")
    with EventWriter(path, header, sessions=workload.session) as writer:
        replay.listen(writer.append)
        replay.run()

    recording = open_recording(path)
    measured = RunMeasurement(recording.header)
    for chunk in recording.resolved():  # every row with the ids of its blocks, in bounded memory
        measured.feed(chunk)
    print(f"{recording.events:,} events, {recording.partial or 'the whole run'}")

figures = measured.figures()
for name in (
    "prefix.token_hit_rate",
    "attribution.cold",
    "attribution.capacity",
    "prefix.evicted_premature_blocks",
    "waste.internal_time_weighted",
    "fragmentation.efi",
    "life.lifetime_p50_s",
    "preemption.wasted_tokens",
    "churn.usage_slope_per_h",
):
    value = figures[name]
    if value is None:
        print(f"{name:34} not known: {figures.unavailable[name]}")
    else:
        print(f"{name:34} {value:,.4g}" if isinstance(value, float) else f"{name:34} {value:,}")

print("preempted requests that cost most:")
for one in measured.contention.result().top_wasted[:3]:
    print(
        f"  request {one.request}: {one.preemptions} preemptions, "
        f"{one.wasted_tokens:,} tokens computed twice"
    )
