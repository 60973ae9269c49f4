// A Swift closure lent to other threads. Swift lets a closure that does not escape travel no further than a call's argument, and
// boxes it on the heap before anything may store it, four hundred times a step. As an argument it is two words, code and context
// (Swift's calling convention, docs/ABI/CallingConvention.rst), which the lanes of a team may use while its owner waits for them.
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
