// libbz2, for source files that are compressed with bzip2.
#pragma once
#include <bzlib.h>
