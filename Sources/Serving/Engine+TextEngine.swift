// The engine of the server is the engine that serving asks for.

import Execution

extension Engine: TextEngine {}
