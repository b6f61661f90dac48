"""The tables of a run: each column's name, type and meaning. The meaning travels in the Parquet field's metadata."""

from __future__ import annotations

import pyarrow as pa

__all__ = ["SCHEMA_VERSION", "TABLES"]

SCHEMA_VERSION = 1

_TYPES = {
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "texts": pa.list_(pa.string()),
    "ints": pa.list_(pa.int64()),
    "map": pa.map_(pa.string(), pa.float64()),
}

_CELLS = """
run_id               text   run that the cell belongs to; sorts by time
cell_id              text   set-up, load, role and repeat: unique in the run
setup_id             text   engine set-up: backend, precision, model, replicas, threads, batch
point_id             text   set-up and load: what repeats have in common
role                 text   measure, calibrate (finds the capacity), probe (searches a rate) or audit
repeat               int    number of the repeat, from 0
position             int    place in the planned order, from 0
status               text   ok; void (submission was late, figures are not to be used); failed (see error)
error                text   why the cell failed
flags                texts  busy-machine, late-submission, slow-collection, overloaded
started_at           text   wall clock at the start, ISO 8601, UTC
backend              text   native, null, or the engine's name beside other engines
model                text   name of the model
model_digest         text   SHA-256 of the model file
precision            text   f32, bf16, int8 or int4
isa                  text   instruction set that the kernels used
replicas             int    engine replicas; 1 beside other engines
threads              int    threads per replica; beside other engines, all of a process
batch                int    slots per replica
prompts              text   sweep; for audits: same or distinct
load                 text   the load as the settings spell it; beside other engines the workload
load_kind            text   closed, poisson, fixed, offline or peer
clients              int    closed loop: clients
rate_rps             float  open loop: requests per second asked for
share                float  open loop: the rate as a share of capacity
duration_s           float  length of the measured window
requests             int    requests scheduled inside the window and answered
errors               int    of these, answered with an error
unfinished           int    scheduled inside the window and never answered
prompt_tokens        int    prompt tokens of the measured requests
output_tokens        int    generated tokens of the measured requests
requests_per_s       float  requests served per second of the window; requests across an edge count by share
tokens_per_s         float  generated tokens per second of the window; same rule
arrived_per_s        float  requests scheduled per second of the window
occupancy            float  share of the slots' time in which they held a request
cpu_s                float  CPU seconds of the worker process in the window
load_s               float  seconds to load the model
start_s              float  peers: seconds from the process's start to its first token
base_rss_bytes       int    resident memory before the model was loaded
peak_rss_bytes       int    peak resident memory of the worker process
weights_bytes        int    weights in memory, as the engine counts them
kv_bytes             int    key/value caches in memory, as the engine counts them
prefix_sharing       bool   whether the engine reads equal beginnings of prompts once
bits_per_byte        float  quality of the model at this precision on held-out text
gmac_per_s           float  billions of multiply-accumulates with weights per second
limit_tokens_per_s   float  tokens per second that the measured machine limits allow this model and batch
limit_share          float  tokens_per_s over limit_tokens_per_s
yardstick            float  machine's own speed around the cell: billions of float32 additions per second, one thread
load_before          float  load average (1 minute) as the window opened
load_after           float  load average (1 minute) as the window closed
others_share         float  share of all cores' time that other processes used in the window
steal_share          float  share of all cores' time that the hypervisor took in the window
context_switches     int    voluntary context switches of the worker in the window
involuntary_switches int    involuntary context switches of the worker in the window
step_s               map    where the engine's time went, by part, in seconds over the window
"""

_REQUESTS = """
run_id               text   run
cell_id              text   cell
index                int    number of the request; it fixes prompt and sampling seed, in every cell alike
scheduled_ns         int    when the request was due; this and the next five count from the window's opening
submitted_ns         int    when the load generator handed it over
started_ns           int    when the engine put it in a slot
first_token_ns       int    when its first token was there
finished_ns          int    when its last token was there
collected_ns         int    when the load generator held the answer
prompt_tokens        int    tokens of the prompt
output_tokens        int    tokens generated
digest               int    BLAKE2b-64 of the generated token ids: equal text, equal digest
error                text   why the request failed
"""

_HISTOGRAMS = """
run_id               text   run
cell_id              text   cell
metric               text   queue, ttft, itl, e2e, service, lateness or turnaround
count                int    values recorded
min_ns               int    smallest value
max_ns               int    largest value
mean_ns              float  arithmetic mean
p50_ns               int    median; null below 20 values
p90_ns               int    90th percentile; null below 100 values
p99_ns               int    99th percentile; null below 1,000 values
p999_ns              int    99.9th percentile; null below 10,000 values
bucket_low_ns        ints   lower bound of each non-empty bucket (3 significant digits)
bucket_count         ints   values in each of these buckets
hdr                  text   the whole histogram, HdrHistogram V2, base64
"""


def _schema(text: str) -> pa.Schema:
    rows = [line.split(maxsplit=2) for line in text.strip().splitlines()]
    return pa.schema([pa.field(name, _TYPES[kind], metadata={"meaning": meaning}) for name, kind, meaning in rows])


TABLES: dict[str, pa.Schema] = {
    "cells": _schema(_CELLS),
    "requests": _schema(_REQUESTS),
    "histograms": _schema(_HISTOGRAMS),
}
