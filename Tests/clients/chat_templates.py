"""Copies of a GGUF file that differ in their chat template: a model that reasons is made of one that does not."""

import struct

TEMPLATE_KEY = b"tokenizer.chat_template"
# Bytes of a value by its type in GGUF; 8 is text and 9 a list.
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
ALIGNMENT = 32


def with_template(source, target, template):
    """Writes to `target` the model at `source` with this chat template."""
    data = source.read_bytes()
    (tensor_count, pair_count), position = struct.unpack_from("<QQ", data, 8), 24
    place = None
    for _ in range(pair_count):
        key, position = text(data, position)
        (kind,) = struct.unpack_from("<I", data, position)
        end = skip(data, position + 4, kind)
        if key == TEMPLATE_KEY:
            place = (position + 4, end)
        position = end
    for _ in range(tensor_count):
        _, position = text(data, position)
        (dimensions,) = struct.unpack_from("<I", data, position)
        position += 4 + 8 * dimensions + 4 + 8
    assert place, "the model has no chat template"
    written = template.encode()
    head = data[: place[0]] + struct.pack("<Q", len(written)) + written + data[place[1] : position]
    tensors = data[position + -position % ALIGNMENT :]
    target.write_bytes(head + bytes(-len(head) % ALIGNMENT) + tensors)


def text(data, position):
    (size,) = struct.unpack_from("<Q", data, position)
    return data[position + 8 : position + 8 + size], position + 8 + size


def skip(data, position, kind):
    """The end of the value of this kind."""
    if kind == 8:
        return text(data, position)[1]
    if kind != 9:
        return position + SIZES[kind]
    kind, count = struct.unpack_from("<IQ", data, position)
    position += 12
    if kind != 8:
        return position + count * SIZES[kind]
    for _ in range(count):
        position = text(data, position)[1]
    return position
