// The curves of several runs as a picture for a paper: SVG, black on white, with axes, ticks and a legend. A run has a
// colour and the shape of its evaluations' markers, so that a print without colours can be read too. All texts are text
// in the file, which other programs can edit.

package struct CurvePlot: Sendable {
  package enum Axis: String, CaseIterable, Sendable {
    case step, tokens, hours

    fileprivate var title: String {
      switch self {
      case .step: "step"
      case .tokens: "tokens"
      case .hours: "hours of training"
      }
    }

    fileprivate func place(step: Int, tokens: Int, seconds: Double) -> Double {
      switch self {
      case .step: Double(step)
      case .tokens: Double(tokens)
      case .hours: seconds / 3600
      }
    }
  }

  private struct Line {
    var name: String
    /// A mean of neighbouring steps, and the range of the steps' own losses.
    var training: [(x: Double, mean: Double, low: Double, high: Double)]
    var validation: [(x: Double, loss: Double)]
  }

  private let lines: [Line]
  private let axis: Axis
  private let frame: Frame

  /// Colours of Okabe and Ito, which most colour-blind people can tell apart, without the yellow that is too pale on
  /// white.
  private static let colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
  /// Wider lines would not show more: a curve is drawn with at most so many points.
  private static let pointLimit = 300

  /// - Parameter smooth: steps over which a line is the mean; nil: a fiftieth of the run's steps.
  package init(_ runs: [(name: String, curve: RunCurve)], axis: Axis, smooth: Int? = nil) {
    self.axis = axis
    lines = runs.map { run in
      Line(
        name: run.name, training: Self.training(run.curve, axis, smooth ?? max(1, run.curve.points.count / 50)),
        validation: run.curve.evaluations.map {
          (axis.place(step: $0.step, tokens: $0.tokens, seconds: $0.seconds), $0.loss)
        })
    }
    frame = Frame(lines.map(\.name), x: Self.range(lines), y: Self.losses(lines))
  }

  /// The centred mean over `smooth` steps, in at most `pointLimit` points; each has the smallest and largest loss of
  /// its steps.
  private static func training(
    _ curve: RunCurve, _ axis: Axis, _ smooth: Int
  ) -> [(x: Double, mean: Double, low: Double, high: Double)] {
    let points = curve.points.filter { $0.loss != nil }, losses = points.map { $0.loss! }
    guard !losses.isEmpty else { return [] }
    var sums = [0.0]
    for loss in losses { sums.append(sums.last! + loss) }
    let count = min(pointLimit, losses.count)
    return (0..<count).map { place in
      let part = place * losses.count / count..<(place + 1) * losses.count / count
      let middle = (part.lowerBound + part.upperBound - 1) / 2
      let before = min(smooth / 2, middle), after = min(smooth - 1 - smooth / 2, losses.count - 1 - middle)
      let low = middle - min(before, after), high = middle + min(before, after) + 1
      let window = max(part.count, high - low) == part.count ? part : low..<high
      let mean = (sums[window.upperBound] - sums[window.lowerBound]) / Double(window.count)
      let point = points[middle]
      return (
        axis.place(step: point.step, tokens: point.tokens, seconds: point.seconds), mean, losses[part].min()!,
        losses[part].max()!
      )
    }
  }

  private static func range(_ lines: [Line]) -> ClosedRange<Double> {
    let all = lines.flatMap { $0.training.map(\.x) + $0.validation.map(\.x) }
    guard let high = all.max(), high > 0 else { return 0...1 }
    // Room for the marker of the last evaluation.
    return 0...high * 1.012
  }

  /// Without the first twentieth, in which the loss falls from a height that would leave no room for the rest.
  private static func losses(_ lines: [Line]) -> ClosedRange<Double> {
    let start = range(lines).upperBound / 20
    func values(after x: Double) -> [Double] {
      lines.flatMap { line in
        line.training.filter { $0.x >= x }.map(\.mean) + line.validation.filter { $0.x >= x }.map(\.loss)
      }
    }
    let late = values(after: start), all = late.isEmpty ? values(after: 0) : late
    guard let low = all.min(), let high = all.max() else { return 0...1 }
    let room = max((high - low) * 0.06, abs(high) * 1e-3, 1e-9)
    return low - room...high + room
  }

  // MARK: The picture

  package var svg: String {
    var parts = [
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(Frame.width) \(frame.height)\" width=\"\(Frame.width)\" "
        + "height=\"\(frame.height)\" role=\"img\" font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\" font-size=\"13\">",
      "<title>\(Self.escaped("Loss of " + lines.map(\.name).joined(separator: ", ")))</title>",
      "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>",
      "<defs><clipPath id=\"plot\"><rect x=\"\(Frame.left)\" y=\"\(Frame.top)\" width=\"\(Frame.plotWidth)\" "
        + "height=\"\(Frame.plotHeight)\"/></clipPath></defs>",
    ]
    parts += frame.axes(x: axis.title, y: "loss, nats a target")
    parts.append("<g clip-path=\"url(#plot)\">")
    for (index, line) in lines.enumerated() { parts += curve(line, index) }
    parts.append("</g>")
    parts += frame.legend.enumerated().map { index, place in
      let y = place.y - 4
      return
        "<g><line x1=\"\(place.x)\" y1=\"\(y)\" x2=\"\(place.x + 26)\" y2=\"\(y)\" stroke=\"\(Self.colour(index))\" "
        + "stroke-width=\"2\"/>" + marker(index, x: Double(place.x + 13), y: Double(y))
        + "<text x=\"\(place.x + 33)\" y=\"\(place.y)\" fill=\"#111111\">\(Self.escaped(lines[index].name))</text></g>"
    }
    parts.append("</svg>")
    return parts.joined(separator: "\n") + "\n"
  }

  private func curve(_ line: Line, _ index: Int) -> [String] {
    var parts: [String] = []
    let colour = Self.colour(index)
    if line.training.count > 1 {
      func path(_ values: some Sequence<(Double, Double)>) -> String {
        values.map { "\(Self.number(frame.x($0.0))),\(Self.number(frame.y($0.1)))" }.joined(separator: " ")
      }
      let band = line.training.map { ($0.x, $0.high) } + line.training.reversed().map { ($0.x, $0.low) }
      parts.append("<polygon points=\"\(path(band))\" fill=\"\(colour)\" fill-opacity=\"0.12\"/>")
      parts.append(
        "<polyline points=\"\(path(line.training.map { ($0.x, $0.mean) }))\" fill=\"none\" stroke=\"\(colour)\" "
          + "stroke-width=\"1.6\" stroke-linejoin=\"round\"/>")
    }
    parts += line.validation.map { marker(index, x: frame.x($0.x), y: frame.y($0.loss)) }
    return parts
  }

  private static func colour(_ index: Int) -> String { colours[index % colours.count] }

  /// The marker of a run's evaluations: circle, square, triangle, diamond, cross, and again with other colours.
  private func marker(_ index: Int, x: Double, y: Double) -> String {
    func at(_ dx: Double, _ dy: Double) -> String { "\(Self.number(x + dx)),\(Self.number(y + dy))" }
    let look = "fill=\"\(Self.colour(index))\" stroke=\"#ffffff\" stroke-width=\"1\""
    switch index % 5 {
    case 0: return "<circle cx=\"\(Self.number(x))\" cy=\"\(Self.number(y))\" r=\"4\" \(look)/>"
    case 1:
      return "<rect x=\"\(Self.number(x - 3.6))\" y=\"\(Self.number(y - 3.6))\" width=\"7.2\" height=\"7.2\" \(look)/>"
    case 2: return "<polygon points=\"\(at(0, -4.8)) \(at(4.6, 3.6)) \(at(-4.6, 3.6))\" \(look)/>"
    case 3: return "<polygon points=\"\(at(0, -5)) \(at(5, 0)) \(at(0, 5)) \(at(-5, 0))\" \(look)/>"
    default:
      return
        "<path d=\"M\(at(-3.5, -3.5))L\(at(3.5, 3.5))M\(at(-3.5, 3.5))L\(at(3.5, -3.5))\" stroke=\"\(Self.colour(index))\" "
        + "stroke-width=\"2.2\"/>"
    }
  }

  fileprivate static func number(_ value: Double) -> String { Format.fixed(value, 1) }

  fileprivate static func escaped(_ text: String) -> String {
    var result = ""
    for character in text {
      switch character {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      default: result.append(character)
      }
    }
    return result
  }
}

/// The places of axes and legend, in pixels.
private struct Frame {
  static let width = 760, left = 66, right = 18, top = 16, plotHeight = 360
  static var plotWidth: Int { width - left - right }
  private static var bottom: Int { top + plotHeight }

  let height: Int
  /// Where the entry of each run begins.
  let legend: [(x: Int, y: Int)]
  private let horizontal: ClosedRange<Double>
  private let vertical: ClosedRange<Double>

  init(_ names: [String], x: ClosedRange<Double>, y: ClosedRange<Double>) {
    (horizontal, vertical) = (x, y)
    var places: [(x: Int, y: Int)] = [], across = Self.left, down = Self.bottom + 66
    for name in names {
      // A letter of 13 pixels is about 7 pixels wide.
      let wide = 33 + 7 * name.count + 22
      if across > Self.left, across + wide > Self.width - Self.right { (across, down) = (Self.left, down + 21) }
      places.append((across, down))
      across += wide
    }
    legend = places
    height = down + 16
  }

  func x(_ value: Double) -> Double {
    Double(Self.left) + (value - horizontal.lowerBound) / (horizontal.upperBound - horizontal.lowerBound)
      * Double(Self.plotWidth)
  }

  func y(_ value: Double) -> Double {
    Double(Self.bottom) - (value - vertical.lowerBound) / (vertical.upperBound - vertical.lowerBound)
      * Double(Self.plotHeight)
  }

  /// Lines of the grid, ticks with numbers, and the titles.
  func axes(x title: String, y other: String) -> [String] {
    let right = Self.left + Self.plotWidth, bottom = Self.bottom
    var parts: [String] = []
    let (down, gapY) = Ticks.ticks(vertical, about: 6)
    for value in down {
      let place = CurvePlot.number(y(value))
      parts.append("<line x1=\"\(Self.left)\" y1=\"\(place)\" x2=\"\(right)\" y2=\"\(place)\" stroke=\"#dddddd\"/>")
      parts.append(
        "<text x=\"\(Self.left - 8)\" y=\"\(place)\" dy=\"0.35em\" text-anchor=\"end\" fill=\"#333333\">"
          + "\(Ticks.label(value, gap: gapY))</text>")
    }
    let (across, gapX) = Ticks.ticks(horizontal, about: 7)
    for value in across {
      let place = CurvePlot.number(x(value))
      parts.append("<line x1=\"\(place)\" y1=\"\(bottom)\" x2=\"\(place)\" y2=\"\(bottom + 5)\" stroke=\"#333333\"/>")
      parts.append(
        "<text x=\"\(place)\" y=\"\(bottom + 20)\" text-anchor=\"middle\" fill=\"#333333\">\(Ticks.label(value, gap: gapX))</text>"
      )
    }
    parts.append(
      "<path d=\"M\(Self.left),\(Self.top)V\(bottom)H\(right)\" fill=\"none\" stroke=\"#333333\"/>")
    let middle = Self.left + Self.plotWidth / 2, half = Self.top + Self.plotHeight / 2
    parts.append("<text x=\"\(middle)\" y=\"\(bottom + 40)\" text-anchor=\"middle\" fill=\"#111111\">\(title)</text>")
    parts.append(
      "<text transform=\"translate(16 \(half)) rotate(-90)\" text-anchor=\"middle\" fill=\"#111111\">\(other)</text>")
    return parts
  }
}

/// Ticks of an axis at multiples of 1, 2 or 5 times a power of ten.
package enum Ticks {
  package static func ticks(_ range: ClosedRange<Double>, about count: Int) -> (values: [Double], gap: Double) {
    let raw = (range.upperBound - range.lowerBound) / Double(max(1, count))
    guard raw > 0, raw.isFinite else { return ([range.lowerBound], 0) }
    var power = 1.0
    while power > raw { power /= 10 }
    while power * 10 <= raw { power *= 10 }
    let gap = ([1.0, 2, 5, 10].first { $0 * power >= raw * 0.999 } ?? 10) * power
    let first = (range.lowerBound / gap - 1e-9).rounded(.up), last = (range.upperBound / gap + 1e-9).rounded(.down)
    guard first <= last else { return ([], gap) }
    return ((Int(first)...Int(last)).map { Double($0) * gap }, gap)
  }

  /// With as many digits as distinguish ticks that are `gap` apart: `0.25`, `1,200`, `40k`.
  package static func label(_ value: Double, gap: Double) -> String {
    if abs(value) < gap / 2 { return "0" }
    for (unit, suffix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] where abs(value) >= unit && gap >= unit / 1000 {
      if unit == 1e3, abs(value) < 1e4 { break }
      return Format.short(((value / unit) * 1000).rounded() / 1000) + suffix
    }
    var digits = 0, scale = 1.0
    while digits < 8, abs((gap * scale).rounded() - gap * scale) > 1e-6 * gap * scale {
      (digits, scale) = (digits + 1, scale * 10)
    }
    return digits == 0 ? Format.grouped(Int(value.rounded())) : Format.fixed(value, digits).replacingMinus
  }
}

extension String {
  /// With the sign that is as wide as a digit.
  fileprivate var replacingMinus: String { hasPrefix("-") ? "−" + dropFirst() : self }
}
