// Stored blocks and the floats the `gguf` Python package (0.19.0, `gguf.quants.dequantize`) decodes them to, as bits.
//
// The Q8_0 and Q4_1 blocks are from the real model (row 1234 of token_embd.weight, row 100 of blk.7.ffn_down.weight);
// the Q4_0 blocks are random; the plain types are zeros, ones, extremes, subnormals and infinities.

import Tensors

struct DequantizationFixture {
    let dtype: DType
    /// The stored bytes, in hexadecimal.
    let stored: String
    /// The bits of the decoded floats, eight hexadecimal digits each.
    let decoded: String

    static let all = [
        DequantizationFixture(
            dtype: .q8_0,
            stored: "dc1dfdf1f802faefeaf1ecfee0fbdde203f1f31e1d020cce011719fd1be0f5f60d7fca182a25f27f"
                + "3c2739e235e2fa5df91bf3d2693fb4270edf3f0cc235ea9ac493d1d2",
            decoded: "bc8ca000bdafc800bd3b80003c3b8000bd0ca000bdc73800be00e800bdafc800bdea6000bc3b8000"
                + "be3b8000bcea6000be4d1400be2fc8003c8ca000bdafc800bd9858003e2fc8003e29ec003c3b8000"
                + "3d8ca000be927c003bbb80003e06c4003e127c00bc8ca0003e1e3400be3b8000bd80e800bd6a6000"
                + "3d9858003f3a09003dc924003db13200bd0618003e980d803e0fac003dbac6003e087d00bd8fac00"
                + "3dfdd200bd8fac00bc65e0003e5eb100bc8618003d814e00bcf90800bddc4c003e7b6d003e16db00"
                + "be35fc003dbac6003d061800bd9e0a003e16db003ce5e000be1476003dfdd200bd52b800be743e00"
                + "be0fac00be828080bde11600bddc4c00"
        ),
        DequantizationFixture(
            dtype: .q4_1,
            stored: "5123d0aec55f584047ca65578255e92c494e53a6b32790b3f95a0b79b545a7759b88aa6a557778b9",
            decoded: "bd0f58003ddcfc003c010000bdda0000bbd240003d155000bd0f5800bbd24000bd9f7800bd0f5800"
                + "3cb590003d8530003cb590003dbfb800bd823400bca9a0003d853000bd0f5800bd0f5800bd49e000"
                + "bd49e0003d853000bca9a000bd0f58003c010000bd0f58003dbfb800bd9f7800bd49e000bd49e000"
                + "bd0f58003d1550003d0cb0003d83f0003dc188003d0cb000bdb00800bdb00800bcd36000bdb00800"
                + "3dc188003b8c00003d83f0003d83f000bdb00800bcd360003b8c00003d0cb0003e5bf400bdb00800"
                + "be720000bcd360003dc18800bdeda0003d83f000bcd360003d0cb0003b8c00003d83f000bd64e000"
                + "bdb00800bcd36000bcd360003dc18800"
        ),
        DequantizationFixture(
            dtype: .q4_0,
            stored: "0abb9ecafa42f5b50d7671321ee59205291fca2d7d80d73dc642bf682303235828f85612",
            decoded: "c0a8f000bfe14000bfe1400040a8f0004028f0004028f000c08cc8003fe1400040c5180040a8f000"
                + "c0a8f0004028f00040a8f0004028f000bf614000c0c51800bf614000c0614000c0c5180040614000"
                + "c0c51800c028f00040e140003f6140003f614000408cc80040c51800c0a8f000bf61400040e14000"
                + "40a8f00040c518003ee79000bf394000bdb940003ee79000be394000bf0af0003f22180000000000"
                + "bee79000bee79000bee79000000000000000000000000000be394000bf0af000bdb9400000000000"
                + "3ee79000bee790003eb94000beb940003e8af000be394000bf0af000bf394000bf0af000be8af000"
                + "bf0af0003f221800be8af000bf221800"
        ),
        DequantizationFixture(
            dtype: .f16,
            stored: "00000080003c00beff7bff030100007c",
            decoded: "00000000800000003f800000bfc00000477fe000387fc000338000007f800000"
        ),
        DequantizationFixture(
            dtype: .bf16,
            stored: "00000080803f49c07f7f0100807f4842",
            decoded: "00000000800000003f800000c04900007f7f0000000100007f80000042480000"
        ),
        DequantizationFixture(
            dtype: .f32,
            stored: "00000000000000800000803f0000c0bf9ec97f7f010000000000807fcdcccc3d",
            decoded: "00000000800000003f800000bfc000007f7fc99e000000017f8000003dcccccd"
        ),
    ]

    /// Rows of the real model, folded by h = (h ^ bits) * 0x100000001b3 from 0xcbf29ce484222325 over the floats' bits.
    static let realRows: [(tensor: String, row: Int, fold: UInt64)] = [
        ("token_embd.weight", 0, 0xdefcd9154a90c965),
        ("token_embd.weight", 1, 0x552fc4786a8a1d25),
        ("token_embd.weight", 2, 0x8bc767a1e86f03e5),
        ("token_embd.weight", 49151, 0xd48c7694f26955e5),
        ("blk.0.attn_q.weight", 0, 0x8371c63dc6f2e625),
        ("blk.0.attn_q.weight", 575, 0x2aa8f4a5cfff5225),
        ("blk.29.ffn_down.weight", 0, 0xa8e6cef7cb1b1925),
        ("blk.29.ffn_down.weight", 300, 0x0f250cc71d905325),
        ("blk.29.ffn_down.weight", 575, 0xa312940a62795725),
        ("blk.15.attn_v.weight", 191, 0x51bae21f341cbc25),
        ("output_norm.weight", 0, 0x0f5edac934203025),
    ]
}
