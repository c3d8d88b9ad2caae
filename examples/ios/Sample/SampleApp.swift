// A sample: no Xcode and no iOS SDK on the machines that coreml-sd is built on, so it was not compiled for iOS.

import Diffusion
import SwiftUI

@main
struct SampleApp: App {
    @State private var model = PictureModel { try await DiffusionPipeline(bundle: try modelFolder()) }

    var body: some Scene {
        WindowGroup { ContentView(model: model) }
    }
}

/// Where the bundle of `coreml-sd convert` is: in the app, or where a download has put it.
private func modelFolder() throws -> URL {
    let downloaded = URL.applicationSupportDirectory.appending(path: "model", directoryHint: .isDirectory)
    if FileManager.default.fileExists(atPath: downloaded.path) { return downloaded }
    guard let shipped = Bundle.main.url(forResource: "model", withExtension: nil) else {
        throw DiffusionError.notABundle(downloaded)
    }
    return shipped
}
