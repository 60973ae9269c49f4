// OpenBLAS, for matrix products.
#include <cblas.h>
