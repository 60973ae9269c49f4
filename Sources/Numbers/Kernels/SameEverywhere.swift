// Functions of real numbers that have the same bits on every processor. Those of a C library differ in the last bit
// between its versions and between processors, and every number on the way of a curve must not.

import CKernels

package enum SameEverywhere {
  /// e^x, |x| < 700.
  package static func exp(_ x: Double) -> Double { ress_exp(x) }
  /// The natural logarithm of x > 0.
  package static func log(_ x: Double) -> Double { ress_log(x) }
  /// base^exponent, base > 0.
  package static func pow(_ base: Double, _ exponent: Double) -> Double { ress_exp(exponent * ress_log(base)) }
  /// The cosine of 2π · turns.
  package static func cosine(turns: Double) -> Double { ress_cosine_of_turns(turns) }
  /// The sine of 2π · turns.
  package static func sine(turns: Double) -> Double { ress_sine_of_turns(turns) }
}
