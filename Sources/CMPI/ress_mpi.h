// What ress asks of MPI. Libraries that speak MPI differ in their binary interface, so nothing but ress_mpi.c sees mpi.h: it is
// built with a site's own mpicc (`make mpi`) and loaded by those workers alone that were started as ranks.
//
// One thread at a time may call; only `start` and `finish` may block. Each function returns NULL, or a sentence about what went
// wrong, which lives until the next call.
#pragma once

#include <stdint.h>

/// Of this table. A program takes no other than its own.
#define RESS_MPI_VERSION 1

/// A rank's place among the processes that one launch started.
typedef struct {
  int32_t rank;
  int32_t size;
  /// The same in all ranks of a world, and in no other.
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
  /// Waits for all ranks. `random`: what the world is called, if this is rank 0.
  const char *(*start)(uint64_t random, ress_mpi_place *place);
  /// The bytes are read until `completed` names the ticket.
  const char *(*send)(int32_t rank, int32_t kind, const void *bytes, uint64_t byte_count, uint64_t ticket);
  /// Whether a message has come; those of one rank come in the order in which it sent them.
  const char *(*probe)(ress_mpi_arrival *arrival, int32_t *is_there);
  /// Takes the message that the last probe found. The bytes are written until `completed` names the ticket.
  const char *(*receive)(void *bytes, uint64_t byte_count, uint64_t ticket);
  /// The tickets of sends and receives that have ended since the last call; they are there until the next.
  const char *(*completed)(const uint64_t **tickets, int32_t *count);
  /// Asked again and again: whether every rank asks this by now.
  const char *(*meet)(int32_t *all_are_here);
  /// The last call. Waits for all ranks.
  const char *(*finish)(void);
} ress_mpi_table;

/// The one symbol of the library.
#define RESS_MPI_SYMBOL "ress_mpi"
typedef const ress_mpi_table *(*ress_mpi_symbol)(void);
