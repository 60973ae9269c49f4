// liblz4's frame format, for source files that are compressed with lz4.
#pragma once
#include <lz4frame.h>
