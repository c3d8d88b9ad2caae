import Diffusion
import SwiftUI

struct ContentView: View {
    @Bindable var model: PictureModel

    var body: some View {
        VStack(spacing: 16) {
            if let image = model.picture?.image {
                image.resizable().scaledToFit()
            }
            if let progress = model.progress {
                ProgressView(value: progress)
            }
            if let message = model.message {
                Text(message)
            }
            TextField("What to draw", text: $model.prompt)
            if model.isDrawing {
                Button("Cancel", role: .cancel) { model.cancel() }
            } else {
                Button("Draw") { model.draw() }
            }
        }
        .padding()
        .task { await model.prepare() }
    }
}
