// The interface between ress and its MPI plug-in. MPI libraries differ in their binary interface, so only
// ress_mpi.c includes mpi.h: it is compiled with a site's own mpicc (`make mpi`) and loaded only by workers that
// were started as MPI ranks.
//
// Only one thread at a time may call these functions. Only `start` and `finish` may block. Each function returns
// NULL, or an error message that is valid until the next call.
#pragma once

#include <stdint.h>

/// Version of this table; a program accepts only its own.
#define RESS_MPI_VERSION 1

/// A rank's place among the processes that were started together.
typedef struct {
  int32_t rank;
  int32_t size;
  /// A number that is the same in all ranks of a launch, and different in other launches.
  uint64_t world;
  char library[128];
} ress_mpi_place;

typedef struct {
  int32_t source;
  int32_t kind;
  uint64_t byte_count;
} ress_mpi_arrival;

typedef struct {
  uint32_t version;
  /// Starts MPI; blocks until all ranks have called it. `random` becomes the world's number on rank 0.
  const char *(*start)(uint64_t random, ress_mpi_place *place);
  /// Begins to send. The bytes must stay valid until `completed` returns the ticket.
  const char *(*send)(int32_t rank, int32_t kind, const void *bytes, uint64_t byte_count, uint64_t ticket);
  /// Whether a message has arrived. Messages of one rank arrive in the order in which it sent them.
  const char *(*probe)(ress_mpi_arrival *arrival, int32_t *is_there);
  /// Begins to receive the message that the last probe found. The bytes are valid when `completed` returns the
  /// ticket.
  const char *(*receive)(void *bytes, uint64_t byte_count, uint64_t ticket);
  /// The tickets of sends and receives that have completed since the last call; the array is valid until the next
  /// call.
  const char *(*completed)(const uint64_t **tickets, int32_t *count);
  /// Whether all ranks have called this. It is called repeatedly until it is true.
  const char *(*meet)(int32_t *all_are_here);
  /// Ends MPI; blocks until all ranks have called it. No other function may be called afterwards.
  const char *(*finish)(void);
} ress_mpi_table;

/// The only symbol that the library exports.
#define RESS_MPI_SYMBOL "ress_mpi"
typedef const ress_mpi_table *(*ress_mpi_symbol)(void);
