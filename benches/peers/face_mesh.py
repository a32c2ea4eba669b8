"""Times facemark's tracking beside MediaPipe Face Mesh on clips, one face, one processor; see face_mesh.sh.

Rounds: in each, both trackers go once through each clip, in an order that changes. A frame's figure is the CPU time of the
tracker's whole process for it, all its threads together, decoding not counted: MediaPipe gets frames that are already in
memory, facemark's clock stands while a frame is read. A clip's figure is the median over its frames, and of those the
median over the rounds. Jitter is the mean length of the second difference of eye corners, nose tip and mouth corners over the
distance of the outer eye corners, in percent, over frames in which the tracker has a face.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

# Eye corners, nose tip, mouth corners of Face Mesh's 468 points, and of those the outer eye corners.
STEADY, OUTER = [33, 133, 362, 263, 1, 61, 291], [33, 263]
WARM_UP = 10


def decode(path):
    """All frames of a clip: height x width x 3 RGB."""
    probe = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "stream=width,height", "-of", "csv=p=0", path]
    width, height = map(int, subprocess.run(probe, check=True, capture_output=True, text=True).stdout.strip().split(",")[:2])
    command = ["ffmpeg", "-v", "error", "-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(pixels, np.uint8).reshape(-1, height, width, 3)


def jitter(frames):
    values = []
    for before, now, after in zip(frames, frames[1:], frames[2:]):
        if before is None or now is None or after is None:
            continue
        unit = np.linalg.norm(now[OUTER[0]] - now[OUTER[1]])
        values.append(np.linalg.norm(after - 2 * now + before, axis=1)[STEADY] / unit)
    return float(100 * np.mean(values))


def face_mesh_worker(path):
    """Runs in a process of its own: prints one JSON object."""
    import mediapipe

    frames = decode(path)
    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=False, max_num_faces=1, refine_landmarks=False)
    found, spent = [], []
    for frame in frames:
        start = time.process_time()
        result = mesh.process(frame)
        spent.append(1e3 * (time.process_time() - start))
        faces = result.multi_face_landmarks
        size = frame.shape[1], frame.shape[0]
        found.append(np.array([(point.x, point.y) for point in faces[0].landmark]) * size if faces else None)
    with_face = sum(face is not None for face in found)
    print(json.dumps({"cpu_ms": statistics.median(spent[WARM_UP:]), "jitter_percent": jitter(found), "frames": len(frames),
                      "frames_with_face": with_face}))


def run_face_mesh(path, _):
    done = subprocess.run([sys.executable, __file__, "--worker", path], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_facemark(path, binary):
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        subprocess.run([binary, "measure", path, "--json", report], check=True, capture_output=True)
        [found] = json.loads(report.read_text())
    return {"cpu_ms": found["cpu_ms"]["p50"], "jitter_percent": found["smoothed"]["jitter_percent"],
            "raw_jitter_percent": found["raw"]["jitter_percent"], "frames": found["frames"],
            "frames_with_face": found["frames_with_face"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*")
    parser.add_argument("--facemark", help="the program of `cargo bench --bench tracking`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # One processor for this process and all that it starts.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    if arguments.worker:
        return face_mesh_worker(arguments.worker)
    trackers = {"facemark": run_facemark, "mediapipe": run_face_mesh}
    results = {}
    for clip in arguments.clips:
        rounds = {name: [] for name in trackers}
        for index in range(arguments.rounds):
            names = list(trackers)
            for name in names if index % 2 == 0 else names[::-1]:
                rounds[name].append(trackers[name](clip, arguments.facemark))
        clip_name = pathlib.Path(clip).name
        results[clip_name] = {}
        for name, runs in rounds.items():
            results[clip_name][name] = {**runs[0], "cpu_ms": statistics.median(run["cpu_ms"] for run in runs)}
        pairs = zip(rounds["mediapipe"], rounds["facemark"])
        ours, theirs = results[clip_name]["facemark"], results[clip_name]["mediapipe"]
        results[clip_name]["cpu_ratio"] = statistics.median(other["cpu_ms"] / own["cpu_ms"] for other, own in pairs)
        results[clip_name]["jitter_ratio"] = ours["jitter_percent"] / theirs["jitter_percent"]
        print(f"{clip_name}: CPU a frame {ours['cpu_ms']:.2f} ms, Face Mesh {theirs['cpu_ms']:.2f} ms "
              f"({results[clip_name]['cpu_ratio']:.1f} times ours); jitter {ours['jitter_percent']:.3f} % (raw "
              f"{ours['raw_jitter_percent']:.3f} %), Face Mesh {theirs['jitter_percent']:.3f} % (ours is "
              f"{results[clip_name]['jitter_ratio']:.2f} of it); frames with a face {ours['frames_with_face']} and "
              f"{theirs['frames_with_face']} of {ours['frames']}", flush=True)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
