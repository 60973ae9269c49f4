// A closure that other threads may call while its owner waits, without a copy on the heap. `ress_lend` itself is declared where Swift
// calls it (Sources/Kernels/Team.swift), because only Swift can name a closure's type.
#pragma once
#include <stdint.h>

typedef struct {
  void *code, *context;
} ress_closure;

/// Calls the closure that `ress_lend` put there.
void ress_call_lent(const ress_closure *closure, int64_t number, int64_t lane);
