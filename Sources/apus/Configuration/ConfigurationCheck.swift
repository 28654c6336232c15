// Checks that concern more than one setting. Each names the settings it reads, so that it is skipped when one of them
// is already reported, and says both values and what to change.

import Serving

/// A rule over several settings.
package struct ConfigurationCheck: Sendable {
    /// What the rule reads.
    package let settings: [Setting]
    /// A sentence when the rule is broken.
    package let contradiction: @Sendable (ResolvedSettings) -> String?

    package static let all = [
        budgetHoldsEverySequence, thresholdWithinBudget, oneCacheSize, knownDevice, exactOnCPU, reachableHost,
        namedOrigins, certificateForTLS, authorityForClients, roomForAdapters, namedAdapters,
    ]

    /// A running sequence needs at least one token of the budget in each step.
    private static let budgetHoldsEverySequence = ConfigurationCheck(
        settings: [.maxNumBatchedTokens, .maxNumSeqs]
    ) { settings in
        guard let budget = settings.integer(.maxNumBatchedTokens), let sequences = settings.integer(.maxNumSeqs),
            budget < sequences
        else { return nil }
        return "max-num-batched-tokens (\(budget)) is less than max-num-seqs (\(sequences)); "
            + "a step gives every running sequence a token. Raise the first or lower the second."
    }

    private static let thresholdWithinBudget = ConfigurationCheck(
        settings: [.maxNumBatchedTokens, .longPrefillTokenThreshold]
    ) { settings in
        let threshold = settings.number(.longPrefillTokenThreshold)
        guard let budget = settings.integer(.maxNumBatchedTokens), threshold > budget else { return nil }
        return "long-prefill-token-threshold (\(threshold)) is more than max-num-batched-tokens (\(budget)), "
            + "so it limits nothing. Lower it, or give 0 to switch it off."
    }

    private static let oneCacheSize = ConfigurationCheck(
        settings: [.kvCacheMemoryBytes, .numGPUBlocksOverride]
    ) { settings in
        guard let bytes = settings.integer(.kvCacheMemoryBytes), let blocks = settings.integer(.numGPUBlocksOverride)
        else { return nil }
        return "kv-cache-memory-bytes (\(ByteCount.describe(bytes))) and num-gpu-blocks-override (\(blocks)) both set "
            + "the size of the KV cache. Give one of them."
    }

    private static let knownDevice = ConfigurationCheck(settings: [.device]) { settings in
        let text = settings.text(.device) ?? ""
        guard DeviceSetting(text) == nil else { return nil }
        return "device is '\(text)', but must be auto, cpu, cuda, cuda:N with N counted from 0, or the UUID of a GPU "
            + "(GPU-…) or of a MIG instance (MIG-…)."
    }

    private static let exactOnCPU = ConfigurationCheck(settings: [.device, .dtype]) { settings in
        guard case .cuda = settings.text(.device).flatMap({ DeviceSetting($0) }), settings.text(.dtype) == "float32"
        else { return nil }
        return "dtype float32 is the exact reference of the CPU; a GPU multiplies bf16. Give --device cpu with it."
    }

    private static let reachableHost = ConfigurationCheck(
        settings: [.host, .uds, .apiKey, .apiKeyFile, .sslCACerts, .sslCertReqs, .allowUnauthenticated]
    ) { settings in
        guard let host = settings.text(.host), !isLoopback(host), settings.text(.uds) == nil,
            settings.texts(.apiKey).isEmpty, settings.text(.apiKeyFile) == nil,
            !settings.demandsCertificates, !settings.boolean(.allowUnauthenticated)
        else { return nil }
        return "host is \(host), which other machines may reach, and there are no API keys. "
            + "Give --api-key-file or APUS_API_KEY, listen on 127.0.0.1 behind a proxy that authenticates, "
            + "or give --allow-unauthenticated."
    }

    private static let certificateForTLS = ConfigurationCheck(
        settings: [.sslCertfile, .sslKeyfile, .sslCACerts, .enableSSLRefresh]
    ) { settings in
        guard settings.text(.sslCertfile) == nil else { return nil }
        let given =
            [Setting.sslKeyfile, .sslCACerts].filter { settings.text($0) != nil }.map(\.name)
            + (settings.boolean(.enableSSLRefresh) ? [Setting.enableSSLRefresh.name] : [])
        guard !given.isEmpty else { return nil }
        return "\(given.joined(separator: ", ")) without ssl-certfile: the server would speak plain HTTP. "
            + "Give the certificate too, or leave out what is about TLS."
    }

    /// Whoever demands certificates must not be left with a server that looks at none.
    private static let authorityForClients = ConfigurationCheck(
        settings: [.sslCACerts, .sslCertReqs]
    ) { settings in
        guard settings.text(.sslCACerts) == nil, settings[.sslCertReqs].origin != .builtIn,
            settings.clientCertificates != .none
        else { return nil }
        return "ssl-cert-reqs (\(settings.text(.sslCertReqs) ?? "")) without ssl-ca-certs: no client's certificate "
            + "could be checked. Give the authorities too, or leave it out."
    }

    private static let namedOrigins = ConfigurationCheck(
        settings: [.allowedOrigins, .allowCredentials]
    ) { settings in
        guard settings.boolean(.allowCredentials), settings.texts(.allowedOrigins).contains("*") else { return nil }
        return "allow-credentials lets pages of every origin act as their visitor while allowed-origins is *. "
            + "Name the origins, or drop allow-credentials."
    }

    private static let roomForAdapters = ConfigurationCheck(
        settings: [.enableLoRA, .loraModules, .loraDir]
    ) { settings in
        guard !settings.boolean(.enableLoRA) else { return nil }
        let given =
            (settings.texts(.loraModules).isEmpty ? [] : [Setting.loraModules.name])
            + (settings.text(.loraDir) == nil ? [] : [Setting.loraDir.name])
        guard !given.isEmpty else { return nil }
        return "\(given.joined(separator: " and ")) without enable-lora: there is no room for adapters. "
            + "Give --enable-lora too."
    }

    private static let namedAdapters = ConfigurationCheck(settings: [.loraModules, .maxLoRAs]) { settings in
        let texts = settings.texts(.loraModules)
        if let wrong = texts.first(where: { AdapterModule($0) == nil }) {
            return "lora-modules has '\(wrong)', but each must be name=folder."
        }
        let names = texts.compactMap { AdapterModule($0)?.name }
        if let twice = names.first(where: { name in names.count { $0 == name } > 1 }) {
            return "lora-modules names '\(twice)' twice. Give each adapter a name of its own."
        }
        let limit = settings.number(.maxLoRAs)
        guard names.count > limit else { return nil }
        return "lora-modules has \(names.count) adapters, but max-loras is \(limit). Raise it to \(names.count)."
    }

    /// Whether only this machine can connect to `host`: 127.0.0.0/8, ::1 or localhost.
    package static func isLoopback(_ host: String) -> Bool {
        if ["localhost", "::1", "[::1]"].contains(host.lowercased()) { return true }
        let octets = host.split(separator: ".", omittingEmptySubsequences: false).map { part in
            part.allSatisfy { $0.isASCII && $0.isNumber } ? UInt8(part) : nil
        }
        return octets.count == 4 && octets.allSatisfy { $0 != nil } && octets[0] == 127
    }
}
