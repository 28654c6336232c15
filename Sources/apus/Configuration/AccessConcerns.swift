// What is valid about keys and certificates and still worth a sentence: files that others can read, keys that can be
// guessed, a certificate that has ended.

import Foundation
import Serving

/// Looks at what is configured about access.
enum AccessConcerns {
    /// One sentence each.
    static func all(_ settings: ResolvedSettings, keys: APIKeys, certificates: TLSCertificates?) -> [String] {
        var concerns = [Setting.apiKeyFile, .sslKeyfile].compactMap { setting in
            settings.text(setting).flatMap { exposure(of: $0, setting) }
        }
        if keys.shortCount > 0 {
            concerns.append(
                "\(keys.shortCount) of \(keys.count) API keys have fewer than \(APIKeys.safeLength) characters and "
                    + "can be found by trying. Use random ones, such as those of `openssl rand -hex 24`.")
        }
        if settings[.apiKey].origin == .flag {
            concerns.append(
                "--api-key shows the keys to everybody who can list this machine's processes. "
                    + "Use --api-key-file or APUS_API_KEY.")
        }
        if let certificates, TimeInterval(certificates.expiry) < Date().timeIntervalSince1970 {
            concerns.append("The certificate ended on \(certificates.end); clients will refuse it.")
        }
        return concerns
    }

    /// A sentence if others than the owner and the group's readers get at the file.
    private static func exposure(of path: String, _ setting: Setting) -> String? {
        do {
            let target = URL(filePath: path).resolvingSymlinksInPath().path(percentEncoded: false)
            let attributes = try FileManager.default.attributesOfItem(atPath: target)
            guard let mode = attributes[.posixPermissions] as? Int, mode & 0o027 != 0 else { return nil }
            return "\(path) (\(setting.name)) has the permissions \(String(mode, radix: 8)): others can read or change "
                + "it. Give it 600."
        } catch {
            // Whoever reads the file says why it cannot be read.
            return nil
        }
    }
}
