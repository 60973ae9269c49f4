// The number type of all arithmetic. The contract (docs/model.md) is single precision; a build with RESS_DOUBLE computes
// the same code in double, where central differences are sharp enough to prove a gradient.

#if RESS_DOUBLE
  package typealias Real = Double
#else
  package typealias Real = Float
#endif

package typealias RealPointer = UnsafeMutablePointer<Real>
