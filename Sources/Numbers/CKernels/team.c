// Lends a Swift closure to other threads. Swift permits a non-escaping closure to be passed only as an argument,
// and copies it to the heap before it can be stored, which would be four hundred allocations per step. As an
// argument, a closure consists of two words, code and context (Swift's calling convention,
// docs/ABI/CallingConvention.rst). Here they are stored, so that the threads of a team can call the closure while
// its owner waits for them.
#include "team.h"

#define SWIFTCALL __attribute__((swiftcall))

typedef SWIFTCALL void (*closure_code)(int64_t number, int64_t lane, __attribute__((swift_context)) void *context);

SWIFTCALL void ress_lend(void *code, void *closure_context, ress_closure *place, void (*during)(void *), void *context) {
  place->code = code;
  place->context = closure_context;
  during(context);
  place->code = place->context = 0;
}

void ress_call_lent(const ress_closure *closure, int64_t number, int64_t lane) {
  ((closure_code)closure->code)(number, lane, closure->context);
}
