import Foundation
import RunCommand

exit(await run(Array(CommandLine.arguments.dropFirst())))
