// The file of a unix socket. It is this server's from when it listens on it until it ends; before and after, whatever
// is at the path is somebody else's.

import FoundationEssentials
import Logging
import NIOCore
import NIOPosix
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A path that is listened on.
final class SocketFile: Sendable {
    let path: String
    private let permissions: UInt16
    private let logger: Logger
    private let isOurs = Atomic(false)

    init(path: String, permissions: UInt16, logger: Logger) {
        self.path = path
        self.permissions = permissions
        self.logger = logger
    }

    /// Refuses the path of a socket that is listened on. That of a server that is gone is replaced without a word, and
    /// so would be this one.
    func checkIsFree(_ loops: any EventLoopGroup) async throws {
        let listener: any Channel
        do {
            listener = try await ClientBootstrap(group: loops).connect(unixDomainSocketPath: path).get()
        } catch {
            // Nobody is there.
            return
        }
        try await listener.close()
        throw IOError(errnoCode: EADDRINUSE, reason: "connect")
    }

    /// Gives the file its permissions, now that it is listened on.
    func take() {
        isOurs.store(true, ordering: .releasing)
        do {
            try FileManager.default.setAttributes([.posixPermissions: Int(permissions)], ofItemAtPath: path)
        } catch {
            logger.error("The permissions of \(path) could not be set.", metadata: ["detail": "\(error)"])
        }
    }

    /// Removes it if it is this server's.
    func remove() {
        guard isOurs.load(ordering: .acquiring) else { return }
        do {
            try FileManager.default.removeItem(atPath: path)
        } catch {
            logger.debug("The socket was gone already.", metadata: ["detail": "\(error)"])
        }
    }
}
