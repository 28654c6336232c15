#!/usr/bin/env python3
"""OpenVINO GenAI as a peer of peers.py: continuous batching in this process, without HTTP, driven line by line.

Run by the interpreter that has openvino-genai: `openvino_peer.py MODEL_FOLDER THREADS`. Prints {"ready": version} after
a first token, then answers every workload (a JSON object on a line of standard input) with what it measured. A token's
time is that of the step that hands it over, so neither HTTP nor JSON is in it: that favours this peer a little.
"""

import json
import random
import sys
import time

import numpy
import openvino
import openvino_genai


class Stream:
    """A request on its way."""

    def __init__(self, pipeline, identifier, tokens, count):
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = count
        config.ignore_eos, config.do_sample, config.apply_chat_template = True, False, False
        prompt = openvino.Tensor(numpy.array([tokens], dtype=numpy.int64))
        self.start, self.times = time.perf_counter(), []
        self.handle = pipeline.add_request(identifier, prompt, config)

    def collect(self, now):
        if self.handle.can_read():
            for output in self.handle.read().values():
                self.times += [now] * len(output.generated_ids)

    @property
    def has_ended(self):
        return self.handle.get_status() != openvino_genai.GenerationStatus.RUNNING


def run(pipeline, workload, identifiers):
    numbers = random.Random(workload["seed"])

    def tokens(count):
        return [numbers.randrange(1000, 48000) for _ in range(count)]

    shared = tokens(workload["shared"])
    prompts = [shared + tokens(workload["prompt"]) for _ in range(workload["requests"])]
    waiting, running, ended = list(prompts), [], []
    start = time.perf_counter()
    while waiting or running:
        while waiting and len(running) < workload["concurrency"]:
            running.append(Stream(pipeline, next(identifiers), waiting.pop(0), workload["output"]))
        pipeline.step()
        now = time.perf_counter()
        for stream in running:
            stream.collect(now)
        ended += [stream for stream in running if stream.has_ended]
        running = [stream for stream in running if not stream.has_ended]
    duration = time.perf_counter() - start
    return {
        "duration": duration, "input_tokens": sum(map(len, prompts)),
        "short": sum(len(stream.times) != workload["output"] for stream in ended),
        "output_tokens": sum(len(stream.times) for stream in ended),
        "ttft": [stream.times[0] - stream.start for stream in ended],
        "itl": [b - a for stream in ended for a, b in zip(stream.times, stream.times[1:])],
        "tpot": [(s.times[-1] - s.times[0]) / (len(s.times) - 1) for s in ended if len(s.times) > 1],
    }


def main():
    folder, threads = sys.argv[1], int(sys.argv[2])
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size, scheduler.max_num_seqs, scheduler.max_num_batched_tokens = 2, 64, 512
    scheduler.dynamic_split_fuse = scheduler.enable_prefix_caching = True
    pipeline = openvino_genai.ContinuousBatchingPipeline(
        folder, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads})
    identifiers = iter(range(1 << 60))
    run(pipeline, {"seed": 0, "shared": 0, "prompt": 3, "requests": 1, "concurrency": 1, "output": 1}, identifiers)
    print(json.dumps({"ready": openvino_genai.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(run(pipeline, json.loads(line), identifiers)), flush=True)


if __name__ == "__main__":
    main()
