// What an operator decides about the server, and what the server knows about the model it serves.

import Execution
import Scheduling
import Tokenization

/// Addresses, limits and time-outs of the HTTP server.
package struct ServingConfiguration: Sendable {
    /// Address to listen on.
    package var host = "127.0.0.1"
    /// Port to listen on; 0 lets the system choose.
    package var port = 8000
    /// Path of a unix socket to listen on instead.
    package var socketPath: String?
    /// Permissions of that socket.
    package var socketMode: UInt16 = 0o600
    /// The keys of which clients must have one.
    package var keys = APIKeys()
    /// Whether /metrics needs a key too; routers and Prometheus usually have none.
    package var guardsMetrics = false
    /// The names that the server may be addressed by.
    package var allowedHosts = AllowedHosts()
    /// Web pages of other origins that may use the server.
    package var crossOrigin = CrossOrigin()
    /// Names by which clients may ask for the model; the first is the one reported. At least one.
    package var servedModelNames: [String]
    /// What the operator called the model, where that is another name.
    package var modelRoot: String?
    /// The version that /version reports.
    package var version: String
    /// Threads that read and write sockets. One carries more than 100,000 chunks a second.
    package var eventLoopCount = 1
    /// Threads that parse large bodies, render templates and tokenize.
    package var tokenizerThreadCount = 1
    /// Calls that may wait for those threads without a place in the engine's queue (/tokenize, /detokenize).
    package var maxTokenizerCalls = 64
    /// Open connections; further ones wait to be accepted.
    package var maxConnections = 4096
    /// Largest request body in bytes.
    package var maxBodyBytes = 2 << 20
    /// Bytes of all bodies being read at one time.
    package var maxBodyBytesTotal = 256 << 20
    /// Most prompts in one request.
    package var maxPrompts = 1024
    /// Most choices for one prompt.
    package var maxChoices = 128
    /// How long a connection may be idle between requests.
    package var keepAliveTimeout = Duration.seconds(75)
    /// How long a request's head may take to arrive once it has begun.
    package var requestHeadTimeout = Duration.seconds(10)
    /// How long its body may take.
    package var requestReadTimeout = Duration.seconds(30)
    /// How long a client may leave a full socket unread before it is given up.
    package var writeStallTimeout = Duration.seconds(30)
    /// Silence on a stream after which a comment is sent, so that proxies keep it open and dead clients show;
    /// zero sends none.
    package var heartbeatInterval = Duration.seconds(15)
    /// How long requests may still run after a shutdown begins.
    package var drainTimeout = Duration.seconds(60)
    /// Whether usage tells how many prompt tokens came from the prefix cache.
    package var reportsCachedTokens = false
    /// Which of a text's states make up its vector.
    package var pooling = Pooling.lastToken
    /// Folder that /start_profile writes to; nil refuses it.
    package var profileFolder: String?
    /// Paths whose requests have no line in the debug log: probes and scrapes, say.
    package var unloggedPaths: Set<String> = []
    /// How the model writes calls of functions; nil asks its chat template.
    package var toolCallForm: ToolCallForm?
    /// What the operator allows of adapters; nil where there are none.
    package var adapters: AdapterRules?
    /// Sampling where a request does not say.
    package var defaults = SamplingDefaults()

    package init(servedModelNames: [String], version: String) {
        self.servedModelNames = servedModelNames
        self.version = version
    }
}

/// Sampling settings for requests that do not give their own; a checkpoint's generation defaults, say.
package struct SamplingDefaults: Sendable {
    /// 0…2; 0 is greedy.
    package var temperature = 1.0
    /// 0 (excluded)…1; 1 is off.
    package var topP = 1.0
    /// 0 is off.
    package var topK = 0
    /// 0…1; 0 is off.
    package var minP = 0.0
    /// Tokens of a completion, where the request does not say. A chat runs until the context is full.
    package var maxCompletionTokens = 16

    package init() {}
}

/// The digests of a model's parts, each with the name of its kind before it ("sha256:…").
package struct ServedDigests: Sendable, Equatable {
    package let model: String
    package let tokenizer: String
    /// nil where the model has no template.
    package let template: String?

    package init(model: String, tokenizer: String, template: String?) {
        self.model = model
        self.tokenizer = tokenizer
        self.template = template
    }
}

/// The model behind the API: text to tokens and back, and the limits that requests are checked against.
package struct ServedModel: Sendable {
    /// Turns text into tokens and back.
    package let tokenizer: Tokenizer
    /// Turns a conversation into text; nil where the checkpoint has none.
    package let chatTemplate: ChatTemplate?
    /// Tokens that end a generation, unless the request ignores them.
    package let stopTokens: [TokenID]
    /// Longest sequence, prompt and output together.
    package let maxModelLength: Int
    /// Token ids a prompt may hold are below this.
    package let vocabularyCount: Int
    /// Elements of a text's vector.
    package var hiddenSize: Int
    /// Sequences that may wait at one time.
    package let maxQueuedRequests: Int
    /// Tokens per KV block, for the metrics.
    package let blockSize: Int
    /// KV blocks, for the metrics.
    package let blockCount: Int
    /// What keys and values are kept as, for the metrics.
    package let kvCacheType: String
    /// Whether prefixes are shared, for the metrics.
    package let enablePrefixCaching: Bool
    /// Whether requests may have priorities.
    package let usesPriorities: Bool
    /// The share of a GPU's free memory that may be used, for the metrics.
    package var gpuMemoryUtilization = 0.9
    /// What the model is made of: shown with it, so that a change is seen. nil shows nothing.
    package var digests: ServedDigests?

    package init(
        tokenizer: Tokenizer, chatTemplate: ChatTemplate?, stopTokens: [TokenID], maxModelLength: Int,
        vocabularyCount: Int, maxQueuedRequests: Int, blockSize: Int, blockCount: Int, enablePrefixCaching: Bool,
        kvCacheType: String = "bfloat16", usesPriorities: Bool = false, hiddenSize: Int = 0
    ) {
        self.tokenizer = tokenizer
        self.chatTemplate = chatTemplate
        self.stopTokens = stopTokens
        self.maxModelLength = maxModelLength
        self.vocabularyCount = vocabularyCount
        self.maxQueuedRequests = maxQueuedRequests
        self.blockSize = blockSize
        self.blockCount = blockCount
        self.kvCacheType = kvCacheType
        self.enablePrefixCaching = enablePrefixCaching
        self.usesPriorities = usesPriorities
        self.hiddenSize = hiddenSize
    }

    /// The model that `engine` runs.
    package init(
        _ engine: EngineInformation, tokenizer: Tokenizer, chatTemplate: ChatTemplate?, stopTokens: [TokenID]
    ) {
        self.init(
            tokenizer: tokenizer, chatTemplate: chatTemplate, stopTokens: stopTokens,
            maxModelLength: engine.maxModelLength,
            vocabularyCount: min(engine.vocabularyCount, tokenizer.vocabularyCount),
            maxQueuedRequests: engine.maxQueuedRequests, blockSize: engine.blockSize, blockCount: engine.blockCount,
            enablePrefixCaching: engine.enablePrefixCaching, kvCacheType: engine.kvCacheType,
            usesPriorities: engine.policy == .priority, hiddenSize: engine.hiddenSize)
    }
}
