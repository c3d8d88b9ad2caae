// A sample: no Xcode and no iOS SDK on the machines that coreml-sd is built on, so it was not compiled for iOS.

import Diffusion
import SwiftUI

struct ContentView: View {
    @Bindable var model: PictureModel

    var body: some View {
        VStack(spacing: 16) {
            PictureView(picture: model.picture)
            StatusView(phase: model.phase, seconds: model.seconds) {
                Task { await model.prepare() }
            }
            TextField("What to draw", text: $model.prompt)
                .textFieldStyle(.roundedBorder)
                .onSubmit { model.draw() }
            if model.isDrawing {
                Button("Cancel", role: .cancel) { model.cancel() }
            } else {
                Button("Draw") { model.draw() }
                    .buttonStyle(.borderedProminent)
                    .disabled(!model.canDraw)
            }
        }
        .padding()
        .task { await model.prepare() }
    }
}

/// The picture, or an empty square of its size.
struct PictureView: View {
    let picture: Picture?

    var body: some View {
        ZStack {
            RoundedRectangle(cornerRadius: 12).fill(.quaternary)
            if let image = picture?.image {
                image.resizable().interpolation(.medium).scaledToFit()
            }
        }
        .aspectRatio(1, contentMode: .fit)
        .accessibilityLabel(picture == nil ? "No picture yet" : "The picture")
    }
}

/// How far it is, or what went wrong and what to do.
struct StatusView: View {
    let phase: PictureModel.Phase
    let seconds: Double?
    let retry: () -> Void

    var body: some View {
        switch phase {
        case .preparing(let fraction):
            ProgressView("Preparing the models for this device, once", value: fraction)
        case .loading(let fraction):
            ProgressView("Loading", value: fraction)
        case .drawing(let step, let count):
            ProgressView("Step \(step) of \(count)", value: Double(step), total: Double(count))
        case .ready:
            Text(seconds.map { "Drawn in \(Int($0.rounded())) s" } ?? "Ready").foregroundStyle(.secondary)
        case .failed(let problem, let remedy):
            VStack(alignment: .leading) {
                Label(problem, systemImage: "exclamationmark.triangle")
                if let remedy { Text(remedy).foregroundStyle(.secondary) }
                Button("Try again", action: retry)
            }
        }
    }
}

#Preview("Drawing") {
    ContentView(model: PictureModel { .preview() })
}

#Preview("A failure") {
    ContentView(model: PictureModel { throw DiffusionError.missingFile(name: "UnetChunk2.mlpackage") })
}
