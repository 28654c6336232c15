// The version of this source tree, as /version and `apus --version` tell it.

enum Version {
    static let current = "0.1.0"
}
