// A camera that is a program: writes pictures into a v4l2loopback device.
//
//     feeder DEVICE WIDTH HEIGHT RATE FOURCC FILE...
//
// Each file is one picture as the driver would give it; they are written in turn, RATE of them a second, until the program is
// stopped. SIGSTOP makes the camera stall.
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

struct picture {
    unsigned char *bytes;
    size_t size;
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static struct picture load(const char *path) {
    struct picture picture;
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    fseek(file, 0, SEEK_END);
    picture.size = (size_t)ftell(file);
    rewind(file);
    picture.bytes = malloc(picture.size ? picture.size : 1);
    if (!picture.bytes || fread(picture.bytes, 1, picture.size, file) != picture.size) fail(path);
    fclose(file);
    return picture;
}

int main(int count, char **arguments) {
    if (count < 7 || strlen(arguments[5]) != 4) {
        fprintf(stderr, "feeder DEVICE WIDTH HEIGHT RATE FOURCC FILE...\n");
        return 2;
    }
    const char *code = arguments[5];
    const unsigned fourcc = v4l2_fourcc(code[0], code[1], code[2], code[3]);
    int pictures = count - 6, rate = atoi(arguments[4]);
    size_t largest = 0;
    struct picture *all = calloc((size_t)pictures, sizeof *all);
    if (!all || rate <= 0) return 2;
    for (int i = 0; i < pictures; i++) {
        all[i] = load(arguments[6 + i]);
        if (all[i].size > largest) largest = all[i].size;
    }

    int device = open(arguments[1], O_RDWR);
    if (device < 0) fail(arguments[1]);
    struct v4l2_format format = {.type = V4L2_BUF_TYPE_VIDEO_OUTPUT};
    format.fmt.pix.width = (unsigned)atoi(arguments[2]);
    format.fmt.pix.height = (unsigned)atoi(arguments[3]);
    format.fmt.pix.pixelformat = fourcc;
    format.fmt.pix.field = V4L2_FIELD_NONE;
    format.fmt.pix.sizeimage = (unsigned)largest;
    if (ioctl(device, VIDIOC_S_FMT, &format) < 0) fail("VIDIOC_S_FMT");
    if (format.fmt.pix.pixelformat != fourcc) {
        fprintf(stderr, "%s does not take %s\n", arguments[1], code);
        return 1;
    }
    struct v4l2_streamparm rates = {.type = V4L2_BUF_TYPE_VIDEO_OUTPUT};
    rates.parm.output.timeperframe.numerator = 1;
    rates.parm.output.timeperframe.denominator = (unsigned)rate;
    if (ioctl(device, VIDIOC_S_PARM, &rates) < 0) fail("VIDIOC_S_PARM");

    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (int i = 0;; i = (i + 1) % pictures) {
        if (write(device, all[i].bytes, all[i].size) < 0 && errno != EAGAIN) fail("write");
        next.tv_nsec += 1000000000L / rate;
        if (next.tv_nsec >= 1000000000L) {
            next.tv_nsec -= 1000000000L;
            next.tv_sec++;
        }
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        // After a stall the camera goes on at its rate; it does not make up for what it missed.
        if (now.tv_sec > next.tv_sec + 1) next = now;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
}
