"""TEMPORARY placeholder while the real module is being written."""
import cv2, numpy as np
def measure(rgb, box, landmarks):
    x0,y0,x1,y1=[int(v) for v in box]; h=y1-y0
    p=rgb[max(0,y0+int(.65*h)):y1, max(0,x0+(x1-x0)//4):max(1,x1-(x1-x0)//4)]
    return cv2.cvtColor(cv2.resize(p,(48,32),interpolation=cv2.INTER_AREA),cv2.COLOR_RGB2GRAY) if p.size else np.zeros((32,48),np.uint8)
def opening(patches):
    p=patches.astype(np.float32); return -(p.mean((1,2))-p.mean()).astype(np.float32)/10
