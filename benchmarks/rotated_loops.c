/* Plain loops for the rotated operators, as one would write them in C: the yardstick of benchmarks/ops.py.
   Boxes are (xc, yc, w, h, angle in degrees); the overlap is clipped edge by edge (Sutherland-Hodgman). */
#include <math.h>
#include <stdlib.h>

typedef struct { float x, y; } point;

static void corners(const float *b, point *out) {
    float t = b[4] * 0.017453292519943295f, c = cosf(t), s = sinf(t);
    static const float sx[4] = {.5f, -.5f, -.5f, .5f}, sy[4] = {.5f, .5f, -.5f, -.5f};
    for (int k = 0; k < 4; k++) {
        float u = sx[k] * b[2], v = sy[k] * b[3];
        out[k].x = b[0] + u * c + v * s;
        out[k].y = b[1] + v * c - u * s;
    }
}

static float side(point a, point b, point p) { return (b.x - a.x) * (p.y - a.y) - (b.y - a.y) * (p.x - a.x); }

static float iou(const float *a, const float *b) {
    point poly[16], next[16], clip[4];
    int n = 4;
    corners(a, poly);
    corners(b, clip);
    float turn = side(clip[0], clip[1], clip[2]) < 0 ? -1.f : 1.f;
    for (int k = 0; k < 4 && n; k++) {
        point p = clip[k], q = clip[(k + 1) % 4];
        int m = 0;
        for (int i = 0; i < n; i++) {
            point u = poly[i], v = poly[(i + 1) % n];
            float du = turn * side(p, q, u), dv = turn * side(p, q, v);
            if (du >= 0) next[m++] = u;
            if ((du >= 0) != (dv >= 0)) {
                float t = du / (du - dv);
                next[m].x = u.x + t * (v.x - u.x);
                next[m++].y = u.y + t * (v.y - u.y);
            }
        }
        n = m;
        for (int i = 0; i < n; i++) poly[i] = next[i];
    }
    float area = 0;
    for (int i = 1; i + 1 < n; i++) area += side(poly[0], poly[i], poly[i + 1]);
    area = fabsf(area) / 2;
    float both = a[2] * a[3] + b[2] * b[3] - area;
    return both > 0 ? area / both : 0;
}

void pairwise(const float *a, long n, const float *b, long m, float *out) {
    for (long i = 0; i < n; i++)
        for (long j = 0; j < m; j++) out[i * m + j] = iou(a + 5 * i, b + 5 * j);
}

/* boxes sorted by falling score; standing is set to 1 for those kept */
void nms(const float *boxes, long n, float threshold, unsigned char *standing) {
    for (long i = 0; i < n; i++) standing[i] = 1;
    for (long i = 0; i < n; i++) {
        if (!standing[i]) continue;
        for (long j = i + 1; j < n; j++)
            if (standing[j] && iou(boxes + 5 * i, boxes + 5 * j) > threshold) standing[j] = 0;
    }
}

/* x [C, H, W], rois [R, 5] in feature-map pixels, out [R, C, bins, bins]; ratio samples per bin and side */
void align(const float *x, long channels, long height, long width, const float *rois, long count, long bins,
           long ratio, float *out) {
    for (long r = 0; r < count; r++) {
        const float *b = rois + 5 * r;
        float t = b[4] * 0.017453292519943295f, c = cosf(t), s = sinf(t);
        for (long ch = 0; ch < channels; ch++) {
            const float *map = x + ch * height * width;
            for (long i = 0; i < bins; i++)
                for (long j = 0; j < bins; j++) {
                    float sum = 0;
                    for (long iy = 0; iy < ratio; iy++)
                        for (long ix = 0; ix < ratio; ix++) {
                            float v = ((i + (iy + .5f) / ratio) / bins - .5f) * b[3];
                            float u = ((j + (ix + .5f) / ratio) / bins - .5f) * b[2];
                            float py = b[1] - .5f + v * c - u * s, px = b[0] - .5f + v * s + u * c;
                            if (py < -1 || py > height || px < -1 || px > width) continue;
                            py = fminf(fmaxf(py, 0), height - 1);
                            px = fminf(fmaxf(px, 0), width - 1);
                            long y0 = (long)py, x0 = (long)px;
                            long y1 = y0 + 1 < height ? y0 + 1 : y0, x1 = x0 + 1 < width ? x0 + 1 : x0;
                            float fy = py - y0, fx = px - x0;
                            sum += (1 - fy) * ((1 - fx) * map[y0 * width + x0] + fx * map[y0 * width + x1]) +
                                   fy * ((1 - fx) * map[y1 * width + x0] + fx * map[y1 * width + x1]);
                        }
                    out[((r * channels + ch) * bins + i) * bins + j] = sum / (ratio * ratio);
                }
        }
    }
}
