// libmicrohttpd, for the coordinator's HTTP server, with wrappers of what Swift cannot import.
#pragma once
#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <string.h>

// Starts a daemon; MHD_start_daemon is variadic, so Swift cannot call it. `address` is a dotted IPv4 address. One
// thread serves at most 512 connections; each may be silent for at most 10 seconds and use at most 32 KiB of
// memory. `notice` is called on that thread when a connection begins and ends.
static inline struct MHD_Daemon *ress_mhd_start(
    const char *address, uint16_t port, MHD_AccessHandlerCallback handler, MHD_NotifyConnectionCallback notice, void *context) {
  struct sockaddr_in place;
  memset(&place, 0, sizeof place);
  place.sin_family = AF_INET;
  place.sin_port = htons(port);
  if (inet_pton(AF_INET, address, &place.sin_addr) != 1) return NULL;
  return MHD_start_daemon(
      MHD_USE_AUTO_INTERNAL_THREAD, port, NULL, NULL, handler, context, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&place,
      MHD_OPTION_NOTIFY_CONNECTION, notice, context, MHD_OPTION_CONNECTION_LIMIT, 512u,
       MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)32768,
      MHD_OPTION_END);
}

static inline uint16_t ress_mhd_port(struct MHD_Daemon *daemon) {
  const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT);
  return info ? info->port : 0;
}

// The descriptor of a connection, or -1.
static inline int ress_mhd_socket(struct MHD_Connection *connection) {
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  return info ? (int)info->connect_fd : -1;
}

// Wrappers of macros and enumerations, whose names Swift would change.
static inline int ress_mhd_is_beginning(enum MHD_ConnectionNotificationCode code) { return code == MHD_CONNECTION_NOTIFY_STARTED; }
static inline enum MHD_Result ress_mhd_yes(void) { return MHD_YES; }
static inline enum MHD_Result ress_mhd_no(void) { return MHD_NO; }

static inline const char *ress_mhd_request_header(struct MHD_Connection *connection, const char *name) {
  return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

// Calls `each` for every name and value of the query string.
static inline int ress_mhd_query(struct MHD_Connection *connection, MHD_KeyValueIterator each, void *context) {
  return MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, each, context);
}

static inline struct MHD_Response *ress_mhd_response(const void *body, size_t size) {
  return MHD_create_response_from_buffer(size, (void *)body, MHD_RESPMEM_MUST_COPY);
}
