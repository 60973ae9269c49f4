// The MPI plug-in, libress-mpi.so: the only part of ress that calls MPI. See ress_mpi.h.
//
// A message is one MPI message of plain bytes, so that MPI can read and write the memory in place. An MPI datatype
// with two pieces (header and rows) was rejected, because MPI may copy data with gaps into buffers of its own.
#include "ress_mpi.h"

#include <limits.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/// All requests in progress; `tickets` has the ticket of each at the same index.
static MPI_Request *requests;
static uint64_t *tickets;
/// Results of the last test: indices of the completed requests, and their tickets.
static int *indices;
static uint64_t *ended_tickets;
static int count, capacity;
static MPI_Message found = MPI_MESSAGE_NULL;
static MPI_Request barrier = MPI_REQUEST_NULL;
static int is_meeting;
/// A communicator of our own, so that messages of other MPI users in the process cannot be confused with ours.
static MPI_Comm world;
/// MPI counts in int. Longer messages are counted in units of 1 GiB and a remainder.
static const uint64_t chunk = 1ull << 30;

static const char *failure(const char *call, int code) {
  static char sentence[MPI_MAX_ERROR_STRING + 64];
  char reason[MPI_MAX_ERROR_STRING] = "unknown";
  int length = 0;
  MPI_Error_string(code, reason, &length);
  snprintf(sentence, sizeof sentence, "%s: %s", call, reason);
  return sentence;
}

#define TRY(call, ...)                                      \
  do {                                                      \
    int code_ = call(__VA_ARGS__);                          \
    if (code_ != MPI_SUCCESS) return failure(#call, code_); \
  } while (0)

static const char *start(uint64_t random, ress_mpi_place *place) {
  int given = 0, rank = 0, size = 0, length = 0;
  TRY(MPI_Init_thread, NULL, NULL, MPI_THREAD_SERIALIZED, &given);
  // Up to here an error ends the process with MPI's own message.
  TRY(MPI_Comm_set_errhandler, MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (given < MPI_THREAD_SERIALIZED) return "this MPI library was built without support for threads (MPI_THREAD_SERIALIZED)";
  TRY(MPI_Comm_dup, MPI_COMM_WORLD, &world);
  TRY(MPI_Comm_set_errhandler, world, MPI_ERRORS_RETURN);
  TRY(MPI_Comm_rank, world, &rank);
  TRY(MPI_Comm_size, world, &size);
  TRY(MPI_Bcast, &random, 1, MPI_UINT64_T, 0, world);
  char library[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  MPI_Get_library_version(library, &length);
  library[strcspn(library, ",\n")] = 0;
  for (char *gap = library; (gap = strchr(gap, '\t'));) *gap = ' ';
  place->rank = rank;
  place->size = size;
  place->world = random;
  snprintf(place->library, sizeof place->library, "%.*s", (int)sizeof place->library - 1, library);
  return NULL;
}

/// Makes room for one more request.
static const char *reserve(void) {
  if (count < capacity) return NULL;
  int wanted = capacity ? 2 * capacity : 64;
  void *new_requests = realloc(requests, wanted * sizeof *requests);
  if (new_requests) requests = new_requests;
  void *new_tickets = realloc(tickets, wanted * sizeof *tickets);
  if (new_tickets) tickets = new_tickets;
  void *new_indices = realloc(indices, wanted * sizeof *indices);
  if (new_indices) indices = new_indices;
  void *new_ended = realloc(ended_tickets, wanted * sizeof *ended_tickets);
  if (new_ended) ended_tickets = new_ended;
  if (!new_requests || !new_tickets || !new_indices || !new_ended) return "no memory for another request";
  capacity = wanted;
  return NULL;
}

/// Makes a datatype of `byte_count` contiguous bytes, for messages whose length does not fit an int.
static const char *long_bytes(uint64_t byte_count, MPI_Datatype *type) {
  MPI_Datatype big;
  TRY(MPI_Type_contiguous, (int)chunk, MPI_BYTE, &big);
  uint64_t chunks = byte_count / chunk;
  if (chunks > INT_MAX) return "a message is too long for MPI";
  int lengths[2] = {(int)chunks, (int)(byte_count % chunk)};
  MPI_Aint places[2] = {0, (MPI_Aint)(chunks * chunk)};
  MPI_Datatype types[2] = {big, MPI_BYTE};
  TRY(MPI_Type_create_struct, 2, lengths, places, types, type);
  TRY(MPI_Type_commit, type);
  TRY(MPI_Type_free, &big);
  return NULL;
}

static const char *send_bytes(int32_t rank, int32_t kind, const void *bytes, uint64_t byte_count, uint64_t ticket) {
  const char *problem = reserve();
  if (problem) return problem;
  if (byte_count <= chunk) {
    TRY(MPI_Isend, bytes, (int)byte_count, MPI_BYTE, rank, kind, world, &requests[count]);
  } else {
    MPI_Datatype type;
    if ((problem = long_bytes(byte_count, &type))) return problem;
    TRY(MPI_Isend, bytes, 1, type, rank, kind, world, &requests[count]);
    TRY(MPI_Type_free, &type);
  }
  tickets[count++] = ticket;
  return NULL;
}

static const char *probe(ress_mpi_arrival *arrival, int32_t *is_there) {
  MPI_Status status;
  MPI_Count bytes = 0;
  int flag = 0;
  TRY(MPI_Improbe, MPI_ANY_SOURCE, MPI_ANY_TAG, world, &flag, &found, &status);
  *is_there = flag;
  if (!flag) return NULL;
  TRY(MPI_Get_elements_x, &status, MPI_BYTE, &bytes);
  arrival->source = status.MPI_SOURCE;
  arrival->kind = status.MPI_TAG;
  arrival->byte_count = (uint64_t)bytes;
  return NULL;
}

static const char *receive(void *bytes, uint64_t byte_count, uint64_t ticket) {
  const char *problem = reserve();
  if (problem) return problem;
  if (byte_count <= chunk) {
    TRY(MPI_Imrecv, bytes, (int)byte_count, MPI_BYTE, &found, &requests[count]);
  } else {
    MPI_Datatype type;
    if ((problem = long_bytes(byte_count, &type))) return problem;
    TRY(MPI_Imrecv, bytes, 1, type, &found, &requests[count]);
    TRY(MPI_Type_free, &type);
  }
  tickets[count++] = ticket;
  return NULL;
}

static int descending(const void *left, const void *right) { return *(const int *)right - *(const int *)left; }

static const char *completed(const uint64_t **done, int32_t *done_count) {
  int ended = 0;
  *done = ended_tickets;
  *done_count = 0;
  if (count == 0) return NULL;
  TRY(MPI_Testsome, count, requests, &ended, indices, MPI_STATUSES_IGNORE);
  if (ended == MPI_UNDEFINED || ended <= 0) return NULL;
  for (int i = 0; i < ended; i++) ended_tickets[i] = tickets[indices[i]];
  *done_count = ended;
  // Iterate backwards: a removed entry is replaced by the last one, which is then known to be live.
  qsort(indices, (size_t)ended, sizeof *indices, descending);
  for (int i = 0; i < ended; i++) {
    count--;
    requests[indices[i]] = requests[count];
    tickets[indices[i]] = tickets[count];
  }
  return NULL;
}

static const char *meet(int32_t *all_are_here) {
  int flag = 0;
  *all_are_here = 0;
  if (!is_meeting) TRY(MPI_Ibarrier, world, &barrier);
  is_meeting = 1;
  TRY(MPI_Test, &barrier, &flag, MPI_STATUS_IGNORE);
  *all_are_here = flag;
  return NULL;
}

static const char *finish(void) {
  TRY(MPI_Comm_free, &world);
  TRY(MPI_Finalize);
  return NULL;
}

#pragma GCC visibility push(default)
const ress_mpi_table *ress_mpi(void) {
  static const ress_mpi_table table = {RESS_MPI_VERSION, start, send_bytes, probe, receive, completed, meet, finish};
  return &table;
}
#pragma GCC visibility pop
