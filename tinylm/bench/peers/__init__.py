"""Other engines on the same models, cores and workloads: conversion, adapters, interleaved rounds, ratios.

Each engine runs in a process of its own, most of them in an environment of their own; the adapters know nothing of
TinyLM, so that no peer is slowed by our imports.
"""
