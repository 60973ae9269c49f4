// The number type of all arithmetic: single precision, as docs/model.md specifies. A build with RESS_DOUBLE
// computes the same code in double precision, in which central differences are accurate enough to verify gradients.

#if RESS_DOUBLE
  package typealias Real = Double
#else
  package typealias Real = Float
#endif

package typealias RealPointer = UnsafeMutablePointer<Real>
