// zlib, for source files that are compressed with gzip.
#pragma once
#include <zlib.h>
