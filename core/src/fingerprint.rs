//! The hash by which a store names a key in a deadlock: FarmHash's `Fingerprint64`
//! (`transactions.md` §13.6).
//!
//! Written here rather than taken from a crate: the one that stores use (farmhash 1.1.5) has `unsafe`
//! code in it, which the core does without. That crate differs from the published definition where more
//! than 64 bytes are a multiple of 64: it mixes the last block in twice. The store's word counts here.

const K0: u64 = 0xc3a5_c85c_97cb_3127;
const K1: u64 = 0xb492_b66f_be98_f273;
const K2: u64 = 0x9ae1_6a3b_2f90_404f;

/// The hash of `bytes`.
pub(crate) fn fingerprint64(bytes: &[u8]) -> u64 {
    match bytes.len() {
        0..=16 => short(bytes),
        17..=32 => medium(bytes),
        33..=64 => long(bytes),
        _ => longest(bytes),
    }
}

/// The eight bytes from `at` on, which have to be there.
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn half_word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u64::from(u32::from_le_bytes(word))
}

fn shift_mix(value: u64) -> u64 {
    value ^ (value >> 47)
}

fn mix(u: u64, v: u64, multiplier: u64) -> u64 {
    let a = shift_mix((u ^ v).wrapping_mul(multiplier));
    shift_mix((v ^ a).wrapping_mul(multiplier)).wrapping_mul(multiplier)
}

fn multiplier(len: usize) -> u64 {
    K2.wrapping_add((len as u64).wrapping_mul(2))
}

fn short(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if len >= 8 {
        let multiplier = multiplier(len);
        let a = word(bytes, 0).wrapping_add(K2);
        let b = word(bytes, len - 8);
        let c = b.rotate_right(37).wrapping_mul(multiplier).wrapping_add(a);
        let d = a.rotate_right(25).wrapping_add(b).wrapping_mul(multiplier);
        return mix(c, d, multiplier);
    }
    if len >= 4 {
        let a = half_word(bytes, 0);
        return mix((len as u64).wrapping_add(a << 3), half_word(bytes, len - 4), multiplier(len));
    }
    if len > 0 {
        let [a, b, c] = [bytes[0], bytes[len >> 1], bytes[len - 1]].map(u64::from);
        let y = a.wrapping_add(b << 8);
        let z = (len as u64).wrapping_add(c << 2);
        return shift_mix(y.wrapping_mul(K2) ^ z.wrapping_mul(K0)).wrapping_mul(K2);
    }
    K2
}

fn medium(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    let multiplier = multiplier(len);
    let a = word(bytes, 0).wrapping_mul(K1);
    let b = word(bytes, 8);
    let c = word(bytes, len - 8).wrapping_mul(multiplier);
    let d = word(bytes, len - 16).wrapping_mul(K2);
    let u = a.wrapping_add(b).rotate_right(43).wrapping_add(c.rotate_right(30)).wrapping_add(d);
    let v = a.wrapping_add(b.wrapping_add(K2).rotate_right(18)).wrapping_add(c);
    mix(u, v, multiplier)
}

fn long(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    let multiplier = multiplier(len);
    let a = word(bytes, 0).wrapping_mul(K2);
    let b = word(bytes, 8);
    let c = word(bytes, len - 8).wrapping_mul(multiplier);
    let d = word(bytes, len - 16).wrapping_mul(K2);
    let y = a.wrapping_add(b).rotate_right(43).wrapping_add(c.rotate_right(30)).wrapping_add(d);
    let z = mix(y, a.wrapping_add(b.wrapping_add(K2).rotate_right(18)).wrapping_add(c), multiplier);
    let e = word(bytes, 16).wrapping_mul(multiplier);
    let f = word(bytes, 24);
    let g = y.wrapping_add(word(bytes, len - 32)).wrapping_mul(multiplier);
    let h = z.wrapping_add(word(bytes, len - 24)).wrapping_mul(multiplier);
    let u = e.wrapping_add(f).rotate_right(43).wrapping_add(g.rotate_right(30)).wrapping_add(h);
    let v = e.wrapping_add(f.wrapping_add(a).rotate_right(18)).wrapping_add(g);
    mix(u, v, multiplier)
}

/// Thirty-two bytes and two seeds, weakly.
fn weak(bytes: &[u8], at: usize, a: u64, b: u64) -> (u64, u64) {
    let [w, x, y, z] = [0, 8, 16, 24].map(|offset| word(bytes, at + offset));
    let mut a = a.wrapping_add(w);
    let mut b = b.wrapping_add(a).wrapping_add(z).rotate_right(21);
    let c = a;
    a = a.wrapping_add(x).wrapping_add(y);
    b = b.wrapping_add(a.rotate_right(44));
    (a.wrapping_add(z), b.wrapping_add(c))
}

fn longest(bytes: &[u8]) -> u64 {
    const SEED: u64 = 81;
    let len = bytes.len();
    let mut x = SEED;
    let mut y = SEED.wrapping_mul(K1).wrapping_add(113);
    let mut z = shift_mix(y.wrapping_mul(K2).wrapping_add(113)).wrapping_mul(K2);
    let (mut v, mut w) = ((0, 0), (0, 0));
    x = x.wrapping_mul(K2).wrapping_add(word(bytes, 0));
    // All full blocks, and below the last 64 bytes once more, as the store does.
    for block in 0..len / 64 {
        let at = block * 64;
        x = x.wrapping_add(y).wrapping_add(v.0).wrapping_add(word(bytes, at + 8));
        x = x.rotate_right(37).wrapping_mul(K1);
        y = y.wrapping_add(v.1).wrapping_add(word(bytes, at + 48)).rotate_right(42);
        y = y.wrapping_mul(K1);
        x ^= w.1;
        y = y.wrapping_add(v.0).wrapping_add(word(bytes, at + 40));
        z = z.wrapping_add(w.0).rotate_right(33).wrapping_mul(K1);
        v = weak(bytes, at, v.1.wrapping_mul(K1), x.wrapping_add(w.0));
        let fresh = y.wrapping_add(word(bytes, at + 16));
        w = weak(bytes, at + 32, z.wrapping_add(w.1), fresh);
        std::mem::swap(&mut z, &mut x);
    }
    let multiplier = K1.wrapping_add((z & 0xff) << 1);
    let at = len - 64;
    w.0 = w.0.wrapping_add(((len - 1) & 63) as u64);
    v.0 = v.0.wrapping_add(w.0);
    w.0 = w.0.wrapping_add(v.0);
    x = x.wrapping_add(y).wrapping_add(v.0).wrapping_add(word(bytes, at + 8));
    x = x.rotate_right(37).wrapping_mul(multiplier);
    y = y.wrapping_add(v.1).wrapping_add(word(bytes, at + 48)).rotate_right(42);
    y = y.wrapping_mul(multiplier);
    x ^= w.1.wrapping_mul(9);
    y = y.wrapping_add(v.0.wrapping_mul(9)).wrapping_add(word(bytes, at + 40));
    z = z.wrapping_add(w.0).rotate_right(33).wrapping_mul(multiplier);
    v = weak(bytes, at, v.1.wrapping_mul(multiplier), x.wrapping_add(w.0));
    let fresh = y.wrapping_add(word(bytes, at + 16));
    w = weak(bytes, at + 32, z.wrapping_add(w.1), fresh);
    std::mem::swap(&mut z, &mut x);
    let first = mix(v.0, w.0, multiplier).wrapping_add(shift_mix(y).wrapping_mul(K0));
    mix(first.wrapping_add(z), mix(v.1, w.1, multiplier).wrapping_add(x), multiplier)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the crate that TiKV uses (farmhash 1.1.5): every way through, and the lengths at which
    /// one ends and the next begins.
    #[test]
    fn hashes_as_the_store_does() {
        let bytes: Vec<u8> =
            (0..400).map(|n: u32| (n as u8).wrapping_mul(31).wrapping_add(7)).collect();
        let rows = [
            (0, 0x9ae1_6a3b_2f90_404f),
            (1, 0x5782_1efd_ee1b_7472),
            (2, 0x0265_679d_ff51_2f39),
            (3, 0x5f04_3801_775b_e181),
            (4, 0xdcf1_5d9b_38b2_60fc),
            (7, 0x545a_c134_b579_25ff),
            (8, 0xd146_9344_0d28_f69a),
            (9, 0xc9d4_703f_a3ce_d177),
            (16, 0xd9b2_8ec3_1be8_3978),
            (17, 0xffb7_cd79_9a15_0d69),
            (31, 0x61a0_6255_8787_9a75),
            (32, 0x5b02_13e6_2a3c_a399),
            (33, 0xd73b_bb57_6c6c_9808),
            (63, 0xff20_33b2_6af5_e749),
            (64, 0x5631_7ec6_58bf_a4f9),
            (65, 0x5a5b_9a92_eb30_61d6),
            (127, 0x7f64_7bd5_6658_eb85),
            (128, 0x2f0f_b329_8b40_a577),
            (129, 0xd8e5_2f1c_af21_aae2),
            (192, 0x9314_d9a9_661b_572e),
            (256, 0xaea0_e34c_a85e_a258),
            (300, 0xdbe6_03e0_4128_7543),
            (400, 0x429c_2480_bf85_b285),
        ];
        for (len, hash) in rows {
            assert_eq!(fingerprint64(&bytes[..len]), hash, "{len} bytes");
        }
        for (text, hash) in [
            ("a", 0xb345_4265_b6df_75e3),
            ("abc", 0x24a5_b3a0_74e7_f369),
            ("hello", 0xb48b_e5a9_3138_0ce8),
            ("x\0\0\u{7}k", 0x6733_514b_cace_4b2d),
        ] {
            assert_eq!(fingerprint64(text.as_bytes()), hash, "{text}");
        }
    }
}
