// libFuzzer on the target that APUS_FUZZ_TARGET names; its own options are the command line. What a target reports
// ends the process, which is how libFuzzer learns of it and keeps the input.

import Foundation
import LibFuzzer

var argumentCount = CommandLine.argc
var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = unsafe CommandLine.unsafeArgv
exit(unsafe LLVMFuzzerRunDriver(&argumentCount, &arguments, runFuzzed))
