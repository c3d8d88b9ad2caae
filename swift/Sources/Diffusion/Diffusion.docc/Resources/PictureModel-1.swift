import Diffusion
import Foundation
import Observation

@MainActor
@Observable
final class PictureModel {
    var prompt = "a zebra on a blue background"
    private(set) var picture: Picture?
    private(set) var progress: Double?
    private(set) var message: String?
}
