// A collective library that says its version and can do nothing else.

#ifndef NCCL_STUB_OLD_H
#define NCCL_STUB_OLD_H

#include <stdint.h>

int32_t ncclGetVersion(int32_t *version);

#endif
