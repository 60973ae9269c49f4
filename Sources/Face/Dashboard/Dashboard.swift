// The dashboard's page: files that are built into the program, so that nothing needs to be installed. They contain no
// data; they request it.

/// The content of a path, and its media type.
package struct PageFile: Sendable {
  package let type: String
  package let bytes: [UInt8]

  private init(_ type: String, _ bytes: [UInt8]) {
    self.type = type
    self.bytes = bytes
  }

  package static let all: [String: PageFile] = {
    let script = "text/javascript; charset=utf-8"
    return [
      "/": PageFile("text/html; charset=utf-8", PackageResources.index_html),
      "/style.css": PageFile("text/css; charset=utf-8", PackageResources.style_css),
      "/icon.svg": PageFile("image/svg+xml", PackageResources.icon_svg),
      "/app.js": PageFile(script, PackageResources.app_js), "/page.js": PageFile(script, PackageResources.page_js),
      "/cluster.js": PageFile(script, PackageResources.cluster_js),
      "/run.js": PageFile(script, PackageResources.run_js),
      "/runs.js": PageFile(script, PackageResources.runs_js),
      "/compare.js": PageFile(script, PackageResources.compare_js),
      "/overlay.js": PageFile(script, PackageResources.overlay_js),
      "/chart.js": PageFile(script, PackageResources.chart_js),
      "/experts.js": PageFile(script, PackageResources.experts_js),
      "/graph.js": PageFile(script, PackageResources.graph_js),
    ]
  }()
}
