// exp, log, cosine and sine in double precision for what is computed once: initial values, the learning rate's schedule, rotary tables,
// validation losses. A C library's own differ in the last bit between its versions and processors, and a curve must not.
#include "kernels.h"

double ress_exp(double x) { return exp_of(x); }
double ress_log(double x) { return log_of(x); }

// sin x and cos x for |x| ≤ π/4. Coefficients: FreeBSD's k_sin.c and k_cos.c.
static double sine(double x) {
  double z = x * x;
  double rest = 8.33333333332248946124e-03 +
                z * (-1.98412698298579493134e-04 +
                     z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)));
  return x + z * x * (-1.66666666666666324348e-01 + z * rest);
}

static double cosine(double x) {
  double z = x * x;
  double rest = z * (4.16666666666666019037e-02 +
                     z * (-1.38888888888741095749e-03 +
                          z * (2.48015872894767294178e-05 +
                               z * (-2.75573143513906633035e-07 +
                                    z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
  return 1 - (0.5 * z - z * rest);
}

// Every turn is a whole number of quarters and an angle of at most π/4 to either side.
static double angle_of(double turns, int *quarter) {
  double quarters = 4 * turns, nearest = __builtin_floor(quarters + 0.5);
  *quarter = (int)((int64_t)nearest & 3);
  return (quarters - nearest) * 1.57079632679489661923;
}

double ress_cosine_of_turns(double turns) {
  int quarter;
  double angle = angle_of(turns, &quarter);
  switch (quarter) {
    case 0: return cosine(angle);
    case 1: return -sine(angle);
    case 2: return -cosine(angle);
    default: return sine(angle);
  }
}

double ress_sine_of_turns(double turns) {
  int quarter;
  double angle = angle_of(turns, &quarter);
  switch (quarter) {
    case 0: return sine(angle);
    case 1: return cosine(angle);
    case 2: return -sine(angle);
    default: return -cosine(angle);
  }
}
