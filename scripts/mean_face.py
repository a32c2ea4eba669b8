#!/usr/bin/env python3
"""Derives the mean 3-D face of `src/pose/mean_face.rs` from labelled pictures: structure from motion over people.

    scripts/mean_face.py DATA > src/pose/mean_face.rs

DATA holds the folders helen, lfpw and afw with their annotations.jsonl; only the records of split `train` are used. Every face
and its mirror image is taken for a view of one rigid, mirror-symmetric face from its own side by a camera far away
(weak perspective; Tomasi and Kanade 1992 with the metric upgrade of Weinshall and Tomasi 1995): a factorisation of rank 3
to start with, then alternating least squares for views and shape in which landmarks count by the inverse of their residual
variance. What is left is turned so that the median pitch of the faces seen from the front is 0. Needs numpy.
"""

import json
import pathlib
import sys

import numpy as np

SETS = ["helen", "lfpw", "afw"]
ROUNDS = 60
# A face whose yaw is less than this, in degrees, is seen from the front.
FRONTAL_DEGREES = 10.0
# A residual beyond so many eye distances counts as this: a wrong label.
LARGEST_RESIDUAL = 0.6


def mirror_pairs():
    pairs = np.arange(68)
    pairs[:17] = np.arange(16, -1, -1)
    pairs[17:27] = np.arange(26, 16, -1)
    for a, b in [(31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46), (48, 54), (49, 53),
                 (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)]:
        pairs[a], pairs[b] = b, a
    return pairs


def load(data, split):
    faces = []
    for name in SETS:
        for line in open(pathlib.Path(data) / name / "annotations.jsonl", encoding="utf-8"):
            record = json.loads(line)
            if record["split"] == split and record["scheme"] == "ibug68":
                faces.append(np.array(record["points"], float).reshape(68, 2))
    return np.array(faces)


def with_mirrors(faces):
    mirrored = faces[:, mirror_pairs()] * [-1.0, 1.0]
    return np.concatenate([faces, mirrored])


def factorise(faces):
    """A first shape, 68 x 3, by rank 3 and the metric upgrade."""
    centered = faces - faces.mean(1, keepdims=True)
    centered /= np.sqrt((centered**2).sum((1, 2), keepdims=True))
    stacked = centered.transpose(0, 2, 1).reshape(-1, 68)
    left, values, right = np.linalg.svd(stacked, full_matrices=False)
    cameras, shape = left[:, :3] * values[:3], right[:3].T
    # Rows u, v of a camera: u L v = 0 and u L u = v L v with the symmetric L = Q Q^T.
    def products(u, v):
        return np.stack([u[:, 0] * v[:, 0], u[:, 1] * v[:, 1], u[:, 2] * v[:, 2], u[:, 0] * v[:, 1] + u[:, 1] * v[:, 0],
                         u[:, 0] * v[:, 2] + u[:, 2] * v[:, 0], u[:, 1] * v[:, 2] + u[:, 2] * v[:, 1]], 1)
    u, v = cameras[0::2], cameras[1::2]
    equations = np.concatenate([products(u, v), 0.5 * (products(u, u) - products(v, v))])
    l = np.linalg.svd(equations)[2][-1]
    metric = np.array([[l[0], l[3], l[4]], [l[3], l[1], l[5]], [l[4], l[5], l[2]]])
    metric *= np.sign(np.trace(metric))
    eigenvalues, vectors = np.linalg.eigh(metric)
    assert eigenvalues.min() > 0, "the views do not fix the depths"
    upgrade = vectors * np.sqrt(eigenvalues)
    shape = shape @ np.linalg.inv(upgrade).T
    # The frame is free: turn it so that most faces are upright, and choose the nose's side of the two mirror images.
    cameras = (cameras @ upgrade).reshape(-1, 2, 3)
    mean = np.linalg.qr((cameras / np.linalg.norm(cameras, axis=2, keepdims=True)).mean(0).T)[0]
    away = np.cross(mean[:, 0], mean[:, 1])
    shape = shape @ np.stack([mean[:, 0], mean[:, 1], away], 1)
    for axis, (low, high) in enumerate([(36, 45), (27, 8)]):
        if shape[low, axis] > shape[high, axis]:
            shape[:, axis] *= -1
    if shape[30, 2] > shape[[36, 45], 2].mean():
        shape[:, 2] *= -1
    return shape


def fit_views(faces, shape, weights):
    """Scales, rotations (their first two rows) and places of the cameras: the nearest to the affine fit."""
    total = weights.sum()
    middle = (weights[:, None] * shape).sum(0) / total
    seen_middle = (weights[:, None] * faces).sum(1) / total
    seen, model = faces - seen_middle[:, None], shape - middle
    moments = (weights[:, None, None] * model[:, :, None] * model[:, None, :]).sum(0)
    affine = np.einsum("k,nki,kj->nij", weights, seen, model) @ np.linalg.inv(moments)
    # Gauss-Newton on the rotation and the scale from the nearest scaled rotation.
    left, values, right = np.linalg.svd(affine, full_matrices=False)
    rotation, scale = left @ right, values.mean(1)
    for _ in range(4):
        third = np.cross(rotation[:, 0], rotation[:, 1])
        full = np.concatenate([rotation, third[:, None]], 1)
        turned = np.einsum("nij,kj->nki", full, model)
        project = turned[:, :, :2] * scale[:, None, None]
        residual = seen - project
        # d/d(angle about x, y, z of the camera) and d/d(log scale)
        x, y, z = (turned * scale[:, None, None]).transpose(2, 0, 1)
        zero = np.zeros_like(x)
        jacobian = np.stack([np.stack([zero, -z], 2), np.stack([z, zero], 2), np.stack([-y, x], 2), project], 3)
        normal = np.einsum("k,nkia,nkib->nab", weights, jacobian, jacobian)
        step = np.linalg.solve(normal, np.einsum("k,nkia,nki->na", weights, jacobian, residual)[..., None])[..., 0]
        angle = np.linalg.norm(step[:, :3], axis=1) + 1e-12
        axis = step[:, :3] / angle[:, None]
        cross = np.zeros((len(axis), 3, 3))
        cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
        cross = cross - cross.transpose(0, 2, 1)
        sin, cos = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
        full = (np.eye(3) + sin * cross + (1 - cos) * cross @ cross) @ full
        rotation, scale = full[:, :2], scale * np.exp(step[:, 3])
    return scale, rotation, seen_middle - scale[:, None] * (rotation @ middle)


def fit_shape(faces, views):
    """The shape that explains all views best; every view counts alike whatever its size in pixels."""
    scale, rotation, place = views
    seen = (faces - place[:, None]) / scale[:, None, None]
    normal = np.einsum("nia,nib->ab", rotation, rotation)
    return np.linalg.solve(normal, np.einsum("nia,nki->ak", rotation, seen)).T


def residuals(faces, shape, views):
    scale, rotation, place = views
    return ((faces - place[:, None]) / scale[:, None, None]) - np.einsum("nij,kj->nki", rotation, shape)


def symmetric(shape):
    return 0.5 * (shape + shape[mirror_pairs()] * [-1.0, 1.0, 1.0])


def angles(views):
    """Yaw, pitch and roll in degrees as `pose::Pose` defines them."""
    rotation = views[1]
    away = np.cross(rotation[:, 0], rotation[:, 1])
    return np.degrees([np.arcsin(away[:, 0]), np.arctan2(-away[:, 1], away[:, 2]),
                       np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])])


def normalise(shape):
    """Middle of the outer eye corners at the origin, their distance 1."""
    shape = shape - 0.5 * (shape[36] + shape[45])
    return shape / np.linalg.norm(shape[45] - shape[36])


def derive(faces):
    shape = normalise(symmetric(factorise(faces)))
    weights = np.ones(68)
    for _ in range(ROUNDS):
        views = fit_views(faces, shape, weights)
        shape = normalise(symmetric(fit_shape(faces, views)))
        spread = np.clip(np.abs(residuals(faces, shape, fit_views(faces, shape, weights))), 0, LARGEST_RESIDUAL)
        variance = np.mean(np.median(spread, 0) ** 2, 1)
        variance = 0.5 * (variance + variance[mirror_pairs()])
        weights = (variance.min() / variance)
    # Pitch: in Pose's order the head nods first, so the face itself is turned.
    yaw, pitch, _ = angles(fit_views(faces, shape, weights))
    nod = np.radians(np.median(pitch[np.abs(yaw) < FRONTAL_DEGREES]))
    y, z = shape[:, 1].copy(), shape[:, 2].copy()
    shape[:, 1], shape[:, 2] = y * np.cos(nod) + z * np.sin(nod), z * np.cos(nod) - y * np.sin(nod)
    return normalise(shape), weights


def describe(name, faces, shape, weights):
    views = fit_views(faces, shape, weights)
    yaw, pitch, roll = angles(views)
    front = np.abs(yaw) < FRONTAL_DEGREES
    error = np.sqrt((weights[:, None] * residuals(faces, shape, views) ** 2).sum((1, 2)) / weights.sum())
    print(f"{name}: {len(faces)} faces, frontal {front.sum()}, their median pitch {np.median(pitch[front]):.2f}; "
          f"median |yaw| {np.median(abs(yaw)):.1f}, |roll| {np.median(abs(roll)):.1f}; residual {np.median(error):.4f}",
          file=sys.stderr)


def main():
    data = sys.argv[1]
    train = load(data, "train")
    shape, weights = derive(with_mirrors(train))
    describe("train", train, shape, weights)
    describe("val", load(data, "val"), shape, weights)
    print("//! The mean face that head pose is fitted to. Written by scripts/mean_face.py: structure from motion over the training")
    print("//! faces of helen, lfpw and afw, all taken for one rigid, mirror-symmetric face.")
    print()
    print("/// Place of each landmark of ibug68 and its weight in the fit. x right, y down, z away from the camera for a face that")
    print("/// looks into it, in units of the distance of the outer eye corners, whose middle is the origin. The weight is the")
    print("/// inverse variance of the landmark's residual over the training faces, 1 for the steadiest one.")
    print("pub(super) const MEAN_FACE: [([f32; 3], f32); 68] = [")
    for (x, y, z), weight in zip(shape, weights):
        print(f"    ([{x + 0.0:.4f}, {y:.4f}, {z:.4f}], {weight:.4f}),")
    print("];")


if __name__ == "__main__":
    main()
