// A Swift closure that other threads may call while its owner waits, without a copy on the heap. `ress_lend` is
// declared in Sources/Numbers/Kernels/Team.swift, where it is called, because only Swift can name the type of a closure.
#pragma once
#include <stdint.h>

typedef struct {
  void *code, *context;
} ress_closure;

/// Calls the closure that `ress_lend` has stored.
void ress_call_lent(const ress_closure *closure, int64_t number, int64_t lane);
