// SQLite, and the constants of it that Swift cannot import.
#include <sqlite3.h>

static inline int ress_sqlite_bind_copy(sqlite3_stmt *statement, int place, const void *bytes, int count) {
  return sqlite3_bind_blob(statement, place, count > 0 ? bytes : "", count, SQLITE_TRANSIENT);
}

static inline int ress_sqlite_bind_text_copy(sqlite3_stmt *statement, int place, const char *text) {
  return sqlite3_bind_text(statement, place, text, -1, SQLITE_TRANSIENT);
}
