// libzstd, for source files that are compressed with zstd.
#pragma once
#include <zstd.h>
