// Nothing: the header is the module, and a target needs a source.

#include "fuzzer.h"
